"""Reads and writes checkpoints in the released layout: config.json, safetensors shards, an index (model.md 3.1)."""

import json
import os
import struct

import torch

TORCH_DTYPE = {"F32": torch.float32, "BF16": torch.bfloat16, "I32": torch.int32, "I64": torch.int64}
NAME_OF_DTYPE = {dtype: name for name, dtype in TORCH_DTYPE.items()}


def load_file(path):
    """name -> tensor of one safetensors file: u64 header length, JSON header, raw little-endian data."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = bytearray(file.read())
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        dtype = TORCH_DTYPE[entry["dtype"]]
        tensors[name] = torch.frombuffer(data[begin:end], dtype=dtype).reshape(entry["shape"])
    return tensors


def save_file(path, tensors):
    header, offset = {}, 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": NAME_OF_DTYPE[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)                       # keeps the data 8-byte aligned
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            raw = tensor.contiguous().view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor.contiguous()
            file.write(raw.numpy().astype(raw.numpy().dtype.newbyteorder("<"), copy=False).tobytes())


def load(folder):
    """All tensors of a checkpoint folder, sharded or not."""
    index = os.path.join(folder, "model.safetensors.index.json")
    if not os.path.exists(index):
        return load_file(os.path.join(folder, "model.safetensors"))
    with open(index) as file:
        shards = sorted(set(json.load(file)["weight_map"].values()))
    tensors = {}
    for shard in shards:
        tensors.update(load_file(os.path.join(folder, shard)))
    return tensors


def released_dtype(name):
    """Projections and embeddings are stored in BF16; what decides or scales is small and stays in F32."""
    if name.endswith("tid2eid"):
        return torch.int32
    small = ("norm.weight", "gate.weight", "gate.bias", "ape", "attn_sink", "_fn", "_base", "_scale")
    return torch.float32 if name.endswith(small) else torch.bfloat16


def save(folder, tensors, shard_bytes=14 << 20):
    """Writes model-0000X-of-0000N.safetensors, no shard above shard_bytes unless one tensor is, and the index."""
    shards, room = [], 0
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().to(released_dtype(name))
        size = tensor.numel() * tensor.element_size()
        if not shards or size > room:
            shards.append({})
            room = shard_bytes
        shards[-1][name] = tensor
        room -= size
    weight_map, total = {}, 0
    for i, shard in enumerate(shards):
        file_name = "model-%05d-of-%05d.safetensors" % (i + 1, len(shards))
        save_file(os.path.join(folder, file_name), shard)
        weight_map.update({name: file_name for name in shard})
        total += sum(t.numel() * t.element_size() for t in shard.values())
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as file:
        json.dump({"metadata": {"total_size": total}, "weight_map": weight_map}, file, indent=1)


def split_experts(state):
    """The model keeps one (X, out, in) tensor per expert matrix; a checkpoint has one 2-D tensor per expert."""
    tensors = {}
    for name, tensor in state.items():
        if ".experts." in name:
            prefix, matrix = name.rsplit(".", 1)
            for e in range(tensor.shape[0]):
                tensors["%s.%d.%s.weight" % (prefix, e, matrix)] = tensor[e]
        else:
            tensors[name] = tensor
    return tensors


def stack_experts(tensors):
    """The inverse of split_experts; everything but integer tables becomes float32."""
    state, experts = {}, {}
    for name, tensor in tensors.items():
        tensor = tensor.float() if tensor.is_floating_point() else tensor.long()
        parts = name.split(".")
        if "experts" in parts:
            at = parts.index("experts")
            stacked = ".".join(parts[:at + 1] + [parts[at + 2]])
            experts.setdefault(stacked, {})[int(parts[at + 1])] = tensor
        else:
            state[name] = tensor
    for name, by_index in experts.items():
        state[name] = torch.stack([by_index[e] for e in range(len(by_index))])
    return state
