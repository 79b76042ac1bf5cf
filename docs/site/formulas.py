"""The formulas of the docstrings, for the page of the API: by a function's name, as LaTeX."""

FORMULAS = {
    "ops.conv2d": r"y_{n,o,p,q} = \mathrm{bias}_o + \sum_{c,i,j} \mathrm{weight}_{o,c,i,j}\;"
    r" x_{n,\,c,\;p + d(i - \lfloor k_h / 2 \rfloor),\;q + d(j - \lfloor k_w / 2 \rfloor)},"
    r" \qquad d = \mathrm{dilation}",
    "ops.batch_norm": r"y = \gamma\, \frac{x - \mathrm{mean}}{\sqrt{\mathrm{variance} + \varepsilon}}"
    r" + \beta, \qquad \text{mean and biased variance over } (N, H, W)",
    "ops.instance_norm": r"y = \gamma\, \frac{x - \mathrm{mean}}{\sqrt{\mathrm{variance} + \varepsilon}}"
    r" + \beta, \qquad \text{mean and biased variance over } (H, W)",
    "ops.fixed_norm": r"y = \gamma\, \frac{x - \mathrm{mean}}{\sqrt{\mathrm{variance} + \varepsilon}}"
    r" + \beta",
    "ops.dropout": r"y = \frac{x \cdot \mathrm{kept}}{1 - \mathrm{rate}}, \qquad"
    r" \mathrm{kept} = 1 \text{ with probability } 1 - \mathrm{rate}, \text{ else } 0",
    "ops.cross_entropy": r"\mathrm{loss} = - \frac{\sum_{\text{pixels}} \mathrm{weight}_{\mathrm{label}}\;"
    r" \mathrm{log\,softmax}(\mathrm{logits})_{\mathrm{label}}}{\sum_{\text{pixels}}"
    r" \mathrm{weight}_{\mathrm{label}}}",
    "ops.entropy": r"\mathrm{loss} = - \frac{1}{\mathrm{pixels}} \sum_{\text{pixels}} \sum_k p_k \log p_k,"
    r" \qquad p = \mathrm{softmax}(\mathrm{logits})",
    "ops.semi_supervised": r"\mathrm{loss} = \mathrm{cross\,entropy}(\text{annotated pixels}) +"
    r" \mathrm{entropy\,weight} \cdot \mathrm{entropy}(\text{the others})",
    "layers.BatchNorm": r"\mathrm{running} \leftarrow \mathrm{momentum} \cdot \mathrm{running} +"
    r" (1 - \mathrm{momentum}) \cdot \mathrm{batch}",
    "optim.Adam": r"m \leftarrow \beta_1 m + (1 - \beta_1) \nabla, \quad"
    r" v \leftarrow \beta_2 v + (1 - \beta_2) \nabla^2, \quad"
    r" x \leftarrow x - \mathrm{rate}\, \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \varepsilon}"
    r" - \mathrm{rate} \cdot \mathrm{decay} \cdot x",
    "views.influence": r"\mathrm{mean}_{n, c, o} \left| \frac{\partial y_{n,o,\mathrm{row},\mathrm{column}}}"
    r"{\partial x_{n,c,p,q}} \right|",
}
