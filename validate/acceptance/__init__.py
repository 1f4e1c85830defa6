"""Small decoders that a calibration is accepted with: measured whole, predicted from their parts."""

from validate.acceptance.decoder import DECODERS, DecoderProbe, decoder_model

__all__ = ["DECODERS", "DecoderProbe", "decoder_model"]
