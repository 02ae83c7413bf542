"""Where these tests run, and what is asked of a device. `RAYMCU_GPU_TESTS_ON=cpu` rehearses them.

A rehearsal runs the same code on the CPU with tiny models: it shows that the script works, and
nothing of a device.
"""

import os

import torch

os.environ.setdefault(
    "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
)  # torch looks once, at the first product
DEVICE = torch.device(os.environ.get("RAYMCU_GPU_TESTS_ON", "cuda"))
IS_REHEARSAL = DEVICE.type == "cpu"
PEAK = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 FLOPs a second, by the vendor's data sheets."""
SHAPES = {
    "135M": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
             "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152},
    "1B": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
           "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256},
}  # fmt: skip
"""SmolLM's 135M and Llama 3.2's 1B."""
if IS_REHEARSAL:
    SHAPES = {
        name: {"hidden_size": 32 * size, "intermediate_size": 64 * size, "num_hidden_layers": 2,
               "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512}
        for size, name in enumerate(SHAPES, 1)
    }  # fmt: skip
told: list[str] = []
"""Figures, shown together at the end."""


def tell(line):
    """Print a figure now, and once more at the end."""
    print(f"\n{line}")
    told.append(line)


def name():
    """Return what the device is called."""
    return "CPU (a rehearsal)" if IS_REHEARSAL else torch.cuda.get_device_name()


def wait():
    """Let the device finish what it was given."""
    if not IS_REHEARSAL:
        torch.cuda.synchronize()


def start_afresh():
    """Give back what no tensor holds, and forget how much memory was held at most."""
    if not IS_REHEARSAL:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def most_bytes():
    """Return the most memory that tensors held since `start_afresh`; 0 in a rehearsal."""
    return 0 if IS_REHEARSAL else torch.cuda.max_memory_allocated()


def device_gib():
    """Return the device's memory in GiB; None of a CPU."""
    return None if IS_REHEARSAL else torch.cuda.get_device_properties(0).total_memory / 2**30


def share_of_peak(flops, seconds):
    """Return FLOPs over what the device could do in that time, in words."""
    peak = next((rate for card, rate in PEAK.items() if card in name()), None)
    return "?" if peak is None else f"{flops / seconds / peak:.1%}"
