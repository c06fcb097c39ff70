import threading
import time

import torch

from higgs_recipes.audio.convolutions import convolution_arithmetic


def test_threads_set_the_arithmetic_of_cudnn_one_after_the_other():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
    seen, started = [], threading.Event()

    def encode(arithmetic, wait):
        with convolution_arithmetic(arithmetic, torch.device("cuda")):
            started.set()
            time.sleep(wait)
            seen.append((arithmetic, torch.backends.cudnn.allow_tf32))

    first = threading.Thread(target=encode, args=("float32", 0.05))
    first.start()
    started.wait()
    encode("tf32", 0.0)
    first.join()
    assert seen == [("float32", False), ("tf32", True)]
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic) == before
