"""Limits below which a reconstruction is said to give nothing away. Standard library."""

SAFE_SSIM = 0.25
"""Structural similarity; Wang et al. 2004. The upper end of its 95% interval is compared."""

SAFE_REID = 0.1
"""Share of inputs that are re-identified. The upper end of its 95% interval is compared."""
