"""DICOM and NIfTI files; without pydicom or nibabel these tests are skipped."""

import gzip
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from image_files import COLOUR, DEEP, NOISE
from test_pixels import check_truncation, read, refusal

from tinyseg.errors import InputError
from tinyseg.io.folder import load_folder
from tinyseg.io.pixels import read_pages

SHAPE = (4, 5, 6)
VOLUME = np.random.default_rng(4).integers(-1000, 1000, SHAPE).astype(np.int16)


def dicom(file, pixels, **fields):
    """A DICOM file of one frame, (H, W) or (H, W, 3); or of `NumberOfFrames` of them along the first axis."""
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    data.SamplesPerPixel = 3 if pixels.shape[-1] == 3 else 1
    data.Rows, data.Columns = pixels.shape[-3:-1] if data.SamplesPerPixel == 3 else pixels.shape[-2:]
    data.PhotometricInterpretation = "RGB" if data.SamplesPerPixel == 3 else "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * pixels.itemsize
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    if data.SamplesPerPixel == 3:
        data.PlanarConfiguration = 0
    for name, value in fields.items():
        setattr(data, name, value)
    data.HighBit = data.BitsStored - 1
    data.PixelData = pixels.tobytes()
    data["PixelData"].VR = "OW"
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.save_as(file, enforce_file_format=True)
    return data


@pytest.mark.parametrize("pixels", [NOISE, DEEP, COLOUR], ids=["8 bits", "16 bits", "colour"])
def test_dicom_is_read_as_it_is_stored(tmp_path, pixels):
    dicom(tmp_path / "a.dcm", pixels)
    found = read(tmp_path / "a.dcm")
    np.testing.assert_array_equal(found, pixels)
    assert found.dtype == pixels.dtype and found.flags.writeable


def test_ct_comes_out_in_hounsfield_units(tmp_path):
    dicom(tmp_path / "a.dcm", DEEP, RescaleSlope="1", RescaleIntercept="-1024")
    found = read(tmp_path / "a.dcm")
    np.testing.assert_array_equal(found, DEEP.astype(int) - 1024)
    assert found.dtype == np.int32


def test_a_broken_slope_makes_floats(tmp_path):
    dicom(tmp_path / "a.dcm", VOLUME[0], RescaleSlope="0.25", RescaleIntercept="-3")
    found = read(tmp_path / "a.dcm")
    np.testing.assert_array_equal(found, np.float32(VOLUME[0] / 4 - 3))
    assert found.dtype == np.float32


@pytest.mark.parametrize(("pixels", "bits", "inverted"), [
    (NOISE, 8, 255 - NOISE),
    (DEEP, 12, 4095 - DEEP),
    (VOLUME[0], 16, -1 - VOLUME[0].astype(int)),  # of signed numbers -32768 is white
])  # fmt: skip
def test_more_is_brighter(tmp_path, pixels, bits, inverted):
    dicom(tmp_path / "a.dcm", pixels, PhotometricInterpretation="MONOCHROME1", BitsStored=bits)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm"), inverted)


def test_frames_are_pages_each_with_a_slope_of_its_own(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    frames = np.stack([DEEP, DEEP.T, DEEP[::-1]])
    groups = []
    for slope in (1, 2, 3):
        group, rescale = pydicom.Dataset(), pydicom.Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept = slope, -slope
        group.PixelValueTransformationSequence = [rescale]
        groups.append(group)
    file = tmp_path / "a.dcm"
    dicom(file, frames, NumberOfFrames=3, PerFrameFunctionalGroupsSequence=groups)
    for slope, frame, page in zip((1, 2, 3), frames.astype(int), read_pages(file), strict=True):
        np.testing.assert_array_equal(page.pixels, slope * frame - slope)
    dicom(file, frames, NumberOfFrames=3, SharedFunctionalGroupsSequence=groups[1:2])
    np.testing.assert_array_equal([page.pixels for page in read_pages(file)], 2 * frames.astype(int) - 2)


def test_a_palette_of_dicom(tmp_path):
    numbers, table = NOISE % 4, np.uint16([[0, 1, 2, 3], [9, 8, 7, 6], [0, 300, 600, 65535]])
    names = ("Red", "Green", "Blue")
    fields = {f"{c}PaletteColorLookupTableDescriptor": [4, 0, 16] for c in names}
    fields |= {f"{c}PaletteColorLookupTableData": band.tobytes() for c, band in zip(names, table)}
    dicom(tmp_path / "a.dcm", numbers, PhotometricInterpretation="PALETTE COLOR", **fields)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm"), table.T[numbers])
    (mask,) = read_pages(tmp_path / "a.dcm", mask=True)
    np.testing.assert_array_equal(mask.pixels, numbers)
    assert mask.palette is not None


def test_a_segmentation_of_one_bit(tmp_path):
    mask = NOISE > 99
    dicom(
        tmp_path / "a.dcm",
        np.packbits(mask, bitorder="little")[None],
        Rows=12,
        Columns=12,
        BitsAllocated=1,
        BitsStored=1,
    )
    found = read(tmp_path / "a.dcm", mask=True)
    np.testing.assert_array_equal(found, mask)
    assert found.dtype == bool


def test_compressed_dicom(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    data = dicom(tmp_path / "a.dcm", DEEP)
    data.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
    data.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read(tmp_path / "a.dcm"), DEEP)


def test_dicom_without_its_preamble_and_without_its_suffix(tmp_path):
    dicom(tmp_path / "IM0001", NOISE)
    np.testing.assert_array_equal(read(tmp_path / "IM0001"), NOISE)
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.dcmread(tmp_path / "IM0001")
    del data.file_meta
    data.preamble = None
    data.save_as(tmp_path / "a.dcm", implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert b"DICM" not in (tmp_path / "a.dcm").read_bytes()[:200]
    np.testing.assert_array_equal(read(tmp_path / "a.dcm"), NOISE)


def test_dicom_within_bounds_is_known_from_its_header(tmp_path):
    dicom(tmp_path / "a.dcm", np.zeros((3, 40, 50), np.uint16), NumberOfFrames=3, RescaleIntercept=-5)
    takes = (3 + 3) * 40 * 50 * 4
    read_pages(tmp_path / "a.dcm", memory=takes)
    assert "--memory GB" in refusal(tmp_path / "a.dcm", memory=takes - 1)
    dicom(tmp_path / "a.dcm", NOISE, NumberOfFrames=10_001)
    assert "at most 10000 pages" in refusal(tmp_path / "a.dcm")
    dicom(tmp_path / "a.dcm", NOISE, Rows=60_000, Columns=60_000)
    assert "got one that takes 14.4 GB" in refusal(tmp_path / "a.dcm")


@pytest.mark.parametrize("how", ["", "_RLE", "_bigendian", "_implicit", "_jp2klossless", "_jpeg_ls_lossless"])
def test_a_real_slice_is_the_same_however_it_is_packed(how):
    """pydicom brings an MR slice in many codings."""
    pydicom = pytest.importorskip("pydicom")
    files = Path(pydicom.__file__).parent / "data/test_files"
    if "ls" in how.split("_"):
        pytest.importorskip("gdcm")
    plain = np.frombuffer(pydicom.dcmread(files / "MR_small.dcm").PixelData, "<i2").reshape(64, 64)
    np.testing.assert_array_equal(read(files / f"MR_small{how}.dcm"), plain)


def test_a_real_slice_of_ct_is_in_hounsfield_units():
    files = Path(pytest.importorskip("pydicom").__file__).parent / "data/test_files"
    slice_ = read(files / "CT_small.dcm")
    assert -1024 <= slice_.min() < -800 and 1000 < slice_.max() < 1500  # air, and bone
    assert abs(np.median(slice_[40:90, 40:90])) < 200  # soft tissue, about as dense as water


def test_what_no_decoder_can_undo_is_said(monkeypatch):
    pydicom = pytest.importorskip("pydicom")

    def iter_pixels(*args, **how):
        raise RuntimeError("Unable to decode as exceptions were raised by all available plugins:\n...")
        yield

    monkeypatch.setattr("pydicom.pixels.iter_pixels", iter_pixels)
    files = Path(pydicom.__file__).parent / "data/test_files"
    assert "no decoder here can undo; save it unpacked)" in refusal(files / "CT_small.dcm")


def test_dicom_packed_as_a_whole_is_refused(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    data = dicom(tmp_path / "a.dcm", NOISE)
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    data.save_as(tmp_path / "a.dcm")
    assert "it is packed as a whole; save it unpacked" in refusal(tmp_path / "a.dcm")


def test_dicom_without_pixels(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    data = dicom(tmp_path / "a.dcm", NOISE)
    del data.Rows
    data.save_as(tmp_path / "a.dcm")
    assert "it holds no image" in refusal(tmp_path / "a.dcm")
    assert pydicom


def test_truncated_dicom_never_loads_in_part(tmp_path):
    dicom(tmp_path / "a.dcm", np.stack([DEEP, DEEP.T]), NumberOfFrames=2)
    check_truncation(tmp_path / "a.dcm")


# NIfTI


def nifti(file, volume, affine, kind="Nifti1Image", **scaling):
    nibabel = pytest.importorskip("nibabel")
    image = getattr(nibabel, kind)(volume, affine)
    if scaling:
        image.header.set_slope_inter(**scaling)
    nibabel.save(image, file)
    return image


@pytest.mark.parametrize("kind", ["Nifti1Image", "Nifti2Image"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII"])
@pytest.mark.parametrize("affine", [
    np.diag([1, 1, 1, 1]), np.diag([-2, 3, -1, 1]),  # the file's axes rise to the right, to the left
    [[0, 0, -3, 1], [2, 0.1, 0, 5], [0, 1, 0, 2], [0, 0, 0, 1]],  # and in another order
], ids=["right", "left", "turned"])  # fmt: skip
def test_slices_in_the_canonical_orientation(tmp_path, kind, name, affine):
    nibabel = pytest.importorskip("nibabel")
    image = nifti(tmp_path / name, VOLUME, np.array(affine, float), kind)
    data = nibabel.as_closest_canonical(image).get_fdata()
    pages = read_pages(tmp_path / name)
    assert len(pages) == data.shape[2]
    for k, page in enumerate(pages):
        np.testing.assert_array_equal(page.pixels, data[:, ::-1, k].T)
        assert page.pixels.dtype == np.int32 and page.pixels.flags.writeable


def test_rows_run_from_front_to_back_and_columns_from_left_to_right(tmp_path):
    volume = np.zeros((3, 4, 2), np.uint8)
    volume[0, 3, 1] = 7  # left, front, top
    nifti(tmp_path / "a.nii", volume, np.eye(4))
    assert read_pages(tmp_path / "a.nii")[1].pixels[0, 0] == 7


def test_slope_and_intercept_of_nifti(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    nibabel.save(
        nibabel.Nifti1Image(np.linspace(0, 1, 24).reshape(2, 3, 4), np.eye(4), header), tmp_path / "a.nii"
    )
    expected = nibabel.load(tmp_path / "a.nii").get_fdata()
    pages = read_pages(tmp_path / "a.nii")
    for k, page in enumerate(pages):
        np.testing.assert_allclose(page.pixels, expected[:, ::-1, k].T, rtol=1e-6)
        assert page.pixels.dtype == np.float32


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3, 2), (4, 5, 1, 1, 2)])
def test_every_volumes_slices_in_turn(tmp_path, shape):
    volume = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    nifti(tmp_path / "a.nii", volume, np.eye(4))
    slices = volume.reshape(4, 5, -1, order="F")
    pages = read_pages(tmp_path / "a.nii")
    for page, expected in zip(pages, np.moveaxis(slices, 2, 0), strict=True):
        np.testing.assert_array_equal(page.pixels, expected[:, ::-1].T)


def test_nifti_of_colour_is_refused(tmp_path):
    rgb = np.zeros((2, 3, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nifti(tmp_path / "a.nii", rgb, np.eye(4))
    assert "expected numbers along two axes or more" in refusal(tmp_path / "a.nii")


def test_a_mask_that_lies_otherwise_than_its_image_is_refused(tmp_path):
    """As a program leaves it that saves a mask without the image's affine: voxels agree, slices do not."""
    (tmp_path / "images").mkdir(), (tmp_path / "masks").mkdir()
    nifti(tmp_path / "images/a.nii", VOLUME, np.diag([-1, -1, 1, 1]))
    nifti(tmp_path / "masks/a.nii", (VOLUME > 0).astype(np.uint8), np.eye(4))
    with pytest.raises(
        InputError, match="a.nii: expected the axes of .*a.nii, LPS, got RAS; save the mask with"
    ):
        load_folder(tmp_path, 8)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_nifti_within_bounds_is_known_from_its_header(tmp_path, name):
    nifti(tmp_path / name, np.zeros((40, 50, 6), np.uint8), np.eye(4))
    takes = (40 * 50 * 6 + 352) * (1 + 3 / 6)
    read_pages(tmp_path / name, memory=takes)
    assert "--memory GB" in refusal(tmp_path / name, memory=takes - 1)


def test_what_follows_the_pixels_of_a_packed_file_stays_packed(tmp_path):
    nifti(tmp_path / "b.nii", VOLUME, np.eye(4))
    content = (tmp_path / "b.nii").read_bytes() + bytes(50_000_000)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content, 1))
    tracemalloc.start()
    assert len(read_pages(tmp_path / "a.nii.gz")) == 6
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 5_000_000


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_truncated_nifti_never_loads_in_part(tmp_path, name):
    nifti(tmp_path / name, VOLUME, np.eye(4))
    check_truncation(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "module"), [("a.dcm", "pydicom"), ("a.nii", "nibabel"), ("a.nii.gz", "nibabel")]
)
def test_without_its_reader_the_message_says_how_to_get_it(tmp_path, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(bytes(400))
    assert refusal(tmp_path / name).endswith(
        f'expected {module} to be there, which reads such files, got none; pip install -e ".[medical]"'
    )
