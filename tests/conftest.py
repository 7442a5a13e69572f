import os

# Tests run in several processes; one thread each is faster than all of them fighting for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
