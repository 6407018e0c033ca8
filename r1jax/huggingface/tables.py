"""What each weight is called in a Hugging Face folder: a table that is read both ways.

Letters: D model width, F mlp hidden, V vocabulary, N query heads, K key-value heads, H head dim, L layers, E experts.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Weight(NamedTuple):
    """The tensors that hold one array of ours.

    `{L}` in a name counts the layers of a stack, from `first_layer` on, and `{E}` experts: our array has all of them,
    with these axes in front. `axes` are the letters of one tensor's axes; letters written together are one flattened
    axis.
    """

    name: str
    axes: str
    first_layer: int = 0


def _in_layer(name: str, axes: str) -> Weight:
    return Weight(f"model.layers.{{L}}.{name}", axes)


# Weights by their path among our parameters.
WEIGHTS = {
    "embed_VD": Weight("model.embed_tokens.weight", "V D"),
    "unembed_DV": Weight("lm_head.weight", "V D"),
    "norm/scale_D": Weight("model.norm.weight", "D"),
    "layers/attention_norm/scale_D": _in_layer("input_layernorm.weight", "D"),
    "layers/attention/q_DNH": _in_layer("self_attn.q_proj.weight", "NH D"),
    "layers/attention/k_DKH": _in_layer("self_attn.k_proj.weight", "KH D"),
    "layers/attention/v_DKH": _in_layer("self_attn.v_proj.weight", "KH D"),
    "layers/attention/o_NHD": _in_layer("self_attn.o_proj.weight", "D NH"),
    "layers/attention/q_bias_NH": _in_layer("self_attn.q_proj.bias", "NH"),
    "layers/attention/k_bias_KH": _in_layer("self_attn.k_proj.bias", "KH"),
    "layers/attention/v_bias_KH": _in_layer("self_attn.v_proj.bias", "KH"),
    "layers/attention/o_bias_D": _in_layer("self_attn.o_proj.bias", "D"),
    "layers/attention/q_norm/scale_H": _in_layer("self_attn.q_norm.weight", "H"),
    "layers/attention/k_norm/scale_H": _in_layer("self_attn.k_norm.weight", "H"),
    "layers/mlp_norm/scale_D": _in_layer("post_attention_layernorm.weight", "D"),
    "layers/mlp/gate_DF": _in_layer("mlp.gate_proj.weight", "F D"),
    "layers/mlp/up_DF": _in_layer("mlp.up_proj.weight", "F D"),
    "layers/mlp/down_FD": _in_layer("mlp.down_proj.weight", "D F"),
    "layers/mlp/gate_bias_F": _in_layer("mlp.gate_proj.bias", "F"),
    "layers/mlp/up_bias_F": _in_layer("mlp.up_proj.bias", "F"),
    "layers/mlp/down_bias_D": _in_layer("mlp.down_proj.bias", "D"),
}
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
# Older files store the rotary frequencies, which are computed here; some files store a tied weight twice.
IGNORED = re.compile(
    r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.(inv_freq|original_inv_freq|cos_cached|sin_cached)|lm_head\.weight"
)
# What torch.compile, data-parallel and checkpointing wrappers put into the names of what they wrap.
WRAPPERS = re.compile(r"(?<![^.])(_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
QUANTISED = re.compile(
    r".*\.(qweight|qzeros|scales|g_idx|weight_(scale|packed|shape|zero_point)\w*|SCB|absmax|quant_map)"
)
