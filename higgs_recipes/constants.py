"""Numbers that Higgs Audio v2 fixes, and that the code shares."""

NUM_CODEBOOKS = 8
CODEC_BATCH_SECONDS = 160.0  # of audio that goes through the codec at once: some GB of a GPU
BOS_CODE = 1024
EOS_CODE = 1025
IGNORE_INDEX = -100
SAMPLE_RATE = 24_000  # Hz
HOP = 960  # audio samples of one codec step
FRAMES_PER_SECOND = SAMPLE_RATE // HOP
MAX_CLIP_SECONDS = 600  # of a clip of an encoded corpus; 15,000 codec steps
