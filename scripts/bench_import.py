"""Peak host memory and time of importing a Hugging Face folder onto 8 emulated devices.

    uv run scripts/bench_import.py             # a random 2 GB Llama in float32, in two files
    uv run scripts/bench_import.py FOLDER      # an existing folder

Prints one line: the folder's size, the peak resident memory of the whole process, their ratio, seconds.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 10,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32_000,
    "tie_word_embeddings": True,
}


def write_model(folder: Path) -> None:
    import jax
    import jax.numpy as jnp

    from r1jax.config.training import MeshSettings
    from r1jax.huggingface.config import read_config
    from r1jax.huggingface.weights import export_params
    from r1jax.models import abstract_params, make_model
    from r1jax.parallel.mesh import make_mesh

    (folder / "config.json").write_text(json.dumps(CONFIG))
    config = read_config(folder)
    model = make_model(config, CONFIG["vocab_size"])
    shapes = abstract_params(model, make_mesh(MeshSettings()))
    params = jax.tree.map(lambda x: jnp.linspace(-1, 1, x.size).reshape(x.shape), shapes)
    export_params(params, model.config, folder, dtype="float32", shard_bytes=10**9)


def measure(folder: Path) -> None:
    import jax

    jax.config.update("jax_num_cpu_devices", 8)
    from r1jax.config.training import MeshSettings
    from r1jax.huggingface.config import read_config
    from r1jax.huggingface.weights import import_params
    from r1jax.models import abstract_params, make_model
    from r1jax.parallel.mesh import make_mesh

    config = read_config(folder)
    mesh = make_mesh(MeshSettings(data=1, fsdp=8))
    model = make_model(config, config.vocab_size or 0)
    abstract = abstract_params(model, mesh)
    begin = time.perf_counter()
    params = jax.block_until_ready(import_params(folder, model.config, abstract))
    seconds = time.perf_counter() - begin
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    held = sum(x.nbytes for x in jax.tree.leaves(params))
    print(
        f"folder {size / 1e9:.2f} GB, weights held {held / 1e9:.2f} GB, peak memory {peak / 1e9:.2f} GB = "
        f"{peak / size:.2f} × folder, {seconds:.1f} s"
    )


def main() -> None:
    if len(sys.argv) == 3:
        folder = Path(sys.argv[2])
        (write_model if sys.argv[1] == "--write" else measure)(folder)
        return
    with tempfile.TemporaryDirectory() as made:  # each in a process of its own, so that memory is counted alone
        folder = sys.argv[1] if len(sys.argv) > 1 else made
        for step in ["--measure"] if len(sys.argv) > 1 else ["--write", "--measure"]:
            subprocess.run([sys.executable, __file__, step, folder], check=True)


if __name__ == "__main__":
    main()
