"""Constants of Higgs Audio v2 that several modules use."""

NUM_CODEBOOKS = 8
CODEC_BATCH_SECONDS = 160.0  # audio per call of the codec: takes a few GB of GPU memory
BOS_CODE = 1024
EOS_CODE = 1025
IGNORE_INDEX = -100
SAMPLE_RATE = 24_000  # Hz
HOP = 960  # audio samples per codec step
FRAMES_PER_SECOND = SAMPLE_RATE // HOP
MAX_CLIP_SECONDS = 600  # of a clip of an encoded corpus; 15,000 codec steps
