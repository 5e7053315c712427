"""Bounds on the error of reconstructions, and on re-identification.

The bounds separate "our attacks failed" from "no attack can succeed". Errors are mean squared
errors a pixel value in unit space. As a PSNR in dB, a bound is that of the *mean* squared error,
`-10 log10`, which is at most the mean PSNR. A bound is `certified` if it follows from its
assumptions, and `estimated` if a number in it was sampled. All bounds but Cramer-Rao hold for any
attacker. The Bayes rate is simulated by `attacks.linkage.bayes`, which knows the likelihoods. JAX
for Jacobians, which are never formed; NumPy and SciPy for the rest.
"""

from jaxinv.measures.bounds.bound import Bound, bayes, evaluate
from jaxinv.measures.bounds.channels import Channel, channel
from jaxinv.measures.bounds.counting import certified_reid, found_among, most_bits
from jaxinv.measures.bounds.errors import cramer_rao, entropy, rate, two_point, van_trees
from jaxinv.measures.bounds.fisher import DITHER, Information, information
from jaxinv.measures.bounds.imperfection import least_error, total_variation
from jaxinv.measures.bounds.linkage import fano, least_noise, reid_sigma
from jaxinv.measures.bounds.spectra import Spectrum
