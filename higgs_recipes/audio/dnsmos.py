"""DNSMOS: predicted listener ratings of a recording, without a reference signal.

Microsoft's networks from the package speechmos: P.835 (overall, speech only, background only) and P.808 (overall),
each from 1 (bad) to 5 (excellent). Source: Reddy, Gopal and Cutler, "DNSMOS P.835", ICASSP 2022.
"""

from pathlib import Path

import torch
import torchaudio
from torch import Tensor

from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError, import_module
from higgs_recipes.files import sha256_file


_RATE = 16_000  # Hz
# The package has no version of its networks other than their file names, and scores of two networks do not compare.
_MODEL_SHA256 = {
    "sig_bak_ovr.onnx": "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd",  # P.835
    "model_v8.onnx": "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91",  # P.808
}
_INSTALL = "pip install 'speechmos>=0.0.1.1,<0.1' 'librosa>=0.11,<1' 'onnxruntime>=1.16'"


class DNSMOS:
    """DNSMOS on the CPU, with as many threads as torch uses.

    Attributes:
        revision: file names and hashes of the networks.

    Raises:
        InputError: a package is not installed, or its networks are not the expected ones.
    """

    def __init__(self) -> None:
        dnsmos = import_module("speechmos.dnsmos", needed_by="segment", install=_INSTALL)
        onnxruntime = import_module("onnxruntime", needed_by="segment", install=_INSTALL)
        paths = [Path(dnsmos.__file__).parent / "dnsmos_models" / name for name in _MODEL_SHA256]
        for path in paths:
            if (digest := sha256_file(path)) != _MODEL_SHA256[path.name]:
                raise InputError(
                    f"DNSMOS: {path} has the SHA-256 {digest[:16]}, not {_MODEL_SHA256[path.name][:16]}: its scores "
                    "would not be comparable; pip install speechmos==0.0.1.1"
                )
        self.scorer = dnsmos.DNSMOS(*map(str, paths))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # The package's own sessions use all cores, in each of several processes.
        self.scorer.onnx_sess, self.scorer.p808_onnx_sess = (
            onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in paths
        )
        self.revision = "DNSMOS " + ", ".join(f"{name} {digest[:8]}" for name, digest in _MODEL_SHA256.items())

    def scores(self, waveform: Tensor) -> dict[str, float]:
        """Score a waveform (N,) at `SAMPLE_RATE`: the columns dnsmos_ovrl, dnsmos_sig, dnsmos_bak and dnsmos_p808.

        Scores are averaged over windows of 9 s that start one second apart; a shorter waveform is repeated to fill
        one.
        """
        # Clamped, as the 16-bit file of the clip will be.
        resampled = torchaudio.functional.resample(waveform, SAMPLE_RATE, _RATE).clamp(-1, 1)
        scores = self.scorer(resampled.numpy(), _RATE, is_personalized_MOS=False)
        return {f"dnsmos_{name}": round(float(scores[f"{name}_mos"]), 2) for name in ("ovrl", "sig", "bak", "p808")}
