"""Speed of attacks: throughput, compile time, memory, and the share of the device's peak.

Works are timed in turn (A B C A B C), so that a disturbance meets all of them, and medians are
reported. An image-iteration is one step of an attack's solver for one image, one application of an
inverse map to one, or one example in a step of training. FLOPs are those of matrix products and
convolutions, as the network defines them, counted by the compiler; a multiplication and an addition
are two. The peak is that of one large matrix product on the devices in use, in the same run.
"""
