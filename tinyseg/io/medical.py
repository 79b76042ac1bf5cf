"""What a DICOM or NIfTI file holds: slices and frames in the units of the measurement.

pydicom and nibabel, which read them, are the extra `medical`. The functions raise whatever these raise, and
`ImportError` without them; pixels.py makes one message of it. `bounds(pages, taken)` is `check_bounds` there.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from math import prod

import numpy as np

DEFLATED = b"1.2.840.10008.1.2.1.99"  # a DICOM file packed as a whole, which nothing unpacks within bounds


def read_dicom(data: bytes, bounds, mask: bool = False) -> Iterator[tuple[np.ndarray, bool]]:
    """Each frame of a DICOM file, and whether it holds numbers of a palette.

    Grey is (H, W), and more is brighter. The rescale slope and intercept are applied: CT comes in Hounsfield
    units. Colour is (H, W, 3), red, green and blue. With `mask`, a palette's numbers stay.
    Source: DICOM PS3.3, C.7.6.3, C.7.6.16.2.9 and C.11.1.
    """
    import pydicom
    from pydicom.pixels import apply_color_lut, iter_pixels

    if DEFLATED in data:
        raise ValueError("it is packed as a whole; save it unpacked")
    header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, force=True)
    if "Rows" not in header or "Columns" not in header:
        raise ValueError("it holds no image")
    frames, samples = int(header.get("NumberOfFrames") or 1), int(header.get("SamplesPerPixel") or 1)
    stored = (
        not header.get("PixelRepresentation") and header.BitsAllocated <= 16 and _rescale(header, 0) == (1, 0)
    )
    depth = -(-header.BitsAllocated // 8) if stored else 4
    bounds(frames, frames * header.Rows * header.Columns * samples * depth)
    # A file without a preamble does not name its syntax: then it is this one.
    syntax = header.file_meta.get("TransferSyntaxUID", pydicom.uid.ImplicitVRLittleEndian)
    palette, found = header.PhotometricInterpretation == "PALETTE COLOR", 0
    for frame, pixels in enumerate(_decoded(iter_pixels(io.BytesIO(data), transfer_syntax_uid=syntax))):
        if palette and not mask:
            pixels = apply_color_lut(pixels, header)
        elif not palette and samples == 1:
            pixels = _measured(pixels, header, frame)
        yield pixels, palette and mask
        found += 1
    if found != frames:
        raise ValueError(f"{found} of {frames} frames are there")


def _decoded(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames; that no installed decoder knows how they are packed is said in a sentence."""
    try:
        yield from frames
    except (RuntimeError, NotImplementedError):
        raise ValueError("it is packed in a way that no decoder here can undo; save it unpacked") from None


def _measured(pixels: np.ndarray, header, frame: int) -> np.ndarray:
    """Stored grey values as what they measure, (H, W); a file may say that less is brighter."""
    from pydicom.pixels import apply_modality_lut

    if header.PhotometricInterpretation == "MONOCHROME1":
        signed, bits = header.PixelRepresentation, header.BitsStored
        pixels = (-1 if signed else 2**bits - 1) - pixels
    if "ModalityLUTSequence" in header:
        return apply_modality_lut(pixels, header)
    slope, intercept = _rescale(header, frame)
    if (slope, intercept) == (1, 0):
        return pixels.astype(bool) if header.BitsAllocated == 1 else pixels
    rescaled = pixels * slope + intercept
    whole = pixels.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer()
    return rescaled.astype(np.int64 if whole else np.float32)


def _rescale(header, frame: int) -> tuple[float, float]:
    """(slope, intercept): the frame's own, or that of all frames, or the file's, or none."""
    own = (header.get("PerFrameFunctionalGroupsSequence") or [])[frame : frame + 1]
    for groups in (*own, *(header.get("SharedFunctionalGroupsSequence") or [])):
        if "PixelValueTransformationSequence" in groups:
            header = groups.PixelValueTransformationSequence[0]
            break
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    return float(1 if slope is None else slope), float(intercept or 0)


def read_nifti(data: bytes, bounds) -> Iterator[tuple[np.ndarray, str]]:
    """Each slice of a NIfTI file along its third axis, (H, W), of each volume in turn; where the axes point.

    The axes are first put in the order and the directions that come closest to right, front (anterior), top.
    Then the rows of a slice run from front to back, its columns from left to right. Slope and intercept are
    applied. Source: NIfTI-1 and NIfTI-2 standards.
    """
    import nibabel

    packed = data.startswith(b"\x1f\x8b")
    with gzip.GzipFile(fileobj=io.BytesIO(data)) if packed else io.BytesIO(data) as stream:
        second = stream.read(4) in (b"\x1c\x02\0\0", b"\0\0\x02\x1c")  # 540, the bytes of NIfTI-2's header
        stream.seek(0)
        header = (nibabel.Nifti2Header if second else nibabel.Nifti1Header).from_fileobj(stream)
        shape, dtype, offset = header.get_data_shape(), header.get_data_dtype(), header.get_data_offset()
        if dtype.kind not in "biuf" or len(shape) < 2 or min(shape) < 1:
            raise ValueError(f"{dtype} of shape {shape}; expected numbers along two axes or more")
        depth = max(dtype.itemsize, 4 if dtype.kind in "if" else 1)  # as stored, or as read
        slope, intercept = header.get_slope_inter()
        scaled = slope is not None and (slope, intercept) != (1, 0)
        bounds(prod(shape[2:]), offset + prod(shape) * max(depth, 4 * scaled))
        stream.seek(offset)
        stored = np.frombuffer(stream.read(prod(shape) * dtype.itemsize), dtype, prod(shape))
    stored = stored.reshape(*shape[:2], shape[2] if shape[2:] else 1, -1, order="F")  # (X, Y, Z, volumes)
    affine = header.get_best_affine()
    turned = nibabel.apply_orientation(stored, nibabel.io_orientation(affine))
    # (X, Y, Z, volumes) -> (H, W) of each slice of each volume
    slices = (turned[:, ::-1, k, t].T for t in range(turned.shape[3]) for k in range(turned.shape[2]))
    axes = "".join(map(str, nibabel.aff2axcodes(affine)))  # such as RAS: right, front, top
    yield from (((page * slope + intercept).astype(np.float32) if scaled else page, axes) for page in slices)
