"""# Nuclei: from a stack of a microscope to counted objects

A TIFF stack becomes a store in micrometres, a small network learns to tell nuclei from what is
around them, labels the whole stack by a sliding window, and the objects of the result are numbered.
This page is a program, `docs/tutorials/nuclei.py`: what it prints and shows stands below each
part, as it was when the page was built.

The stack is the 3-D example of the Python package stardist, with nuclei that were outlined by hand;
it is small, and every line is the same for one of two terabytes.
"""

# %% [markdown]
# ## The files
#
# `tools/demo.py` of the repository takes them out of the package's wheel.

# %%
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from demo import fetch_from_wheel

names = {f"{n}.tif": f"stardist/data/images/{n}3d.tif" for n in ("img", "mask")}
platform = ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64")
files = fetch_from_wheel("stardist", "0.9.2", names, *platform)
print(*(file.name for file in files))

# %% [markdown]
# ## Into a store
#
# These files do not say how large a voxel is, so the ingest is told, in millimetres (z, y, x; the
# numbers are an example); OME-TIFF and ImageJ files say it themselves.
# `levels` adds coarser copies, which viewers show first.

# %%
import numpy as np
import voxquarry as vq

image, mask = files
sources = {"nuclei": image, "objects": vq.Labels(mask)}
voxel = (0.002, 0.001, 0.001)
ds = vq.ingest({"worm": sources}, "store.zarr", patch_size=16, spacing=voxel, levels=1)
stack, objects = ds["worm"]["nuclei"], ds["worm"]["objects"]
outlined = len(objects.labels) - (0 in objects.labels)
print(stack, objects, f"{outlined} nuclei were outlined", sep="\n")

# %%
objects.show(at="middle")

# %% [markdown]
# ## Patches
#
# A network that sees single voxels of touching nuclei cannot part them.
# So it learns their cores: voxels whose neighbours are all of the same nucleus.
# They become one more volume of the subject, in one step, beside those that are there.

# %%
voxels = objects[...]
cores = voxels > 0
for axis in range(3):
    for step in (1, -1):
        cores &= np.roll(voxels, step, axis) == voxels
added = {"worm": {"cores": vq.Labels(vq.Array(cores.astype("u1"), affine=stack.affine))}}
ds = vq.ingest(added, "store.zarr", patch_size=16, add=True)

# %% [markdown]
# Half of the patches are centred on a core; each is turned, mirrored and made brighter or darker
# while it is read.

# %%
import torch
import voxquarry.torch

queue = vq.Queue(
    ds,
    vq.LabelSampler(16, "cores", {0: 1, 1: 1}),
    volumes=["nuclei", "cores"],
    patches_per_subject=128,
    batch_size=16,
    seed=0,
    normalize="zscore",
    dtype="float32",
    augment=vq.Augment(rotation_degrees=(0, 0, 180), flip=True, brightness=(0.9, 1.1)),
)
batches = voxquarry.torch.loader(queue)

# %% [markdown]
# ## Training
#
# A toy: three convolutions, on the CPU, for some seconds.

# %%
torch.manual_seed(0)
network = torch.nn.Sequential(
    torch.nn.Conv3d(1, 16, 3, padding=1),
    torch.nn.ReLU(),
    torch.nn.Conv3d(16, 16, 3, padding=1),
    torch.nn.ReLU(),
    torch.nn.Conv3d(16, 2, 3, padding=1),
)
optimizer = torch.optim.Adam(network.parameters(), 3e-3)
for _epoch in range(20):
    losses = []
    for batch in batches:
        loss = torch.nn.functional.cross_entropy(
            network(batch["nuclei"]), batch["cores"][:, 0].long()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
print(f"cross-entropy of the last epoch: {np.mean(losses):.3f}")

# %% [markdown]
# ## The whole stack, and its objects
#
# `infer` labels the stack into a store, and `label_components` numbers what hangs together there,
# box by box, so that neither has to fit into memory.

# %%
network.eval()


def model(patches):
    return network((patches.float() - stack.stats["mean"]) / stack.stats["std"])


found = voxquarry.torch.infer(model, stack, 16, finish="argmax", out="found.zarr/worm/cores")
numbered = vq.label_components(found, "found.zarr/worm/objects", min_voxels=20)
counted = len(numbered.labels) - (0 in numbered.labels)
print(f"{counted} objects were found, {outlined} were outlined")

# %%
numbered.show(at="middle")

# %% [markdown]
# `vq.view("store.zarr/worm/nuclei", overlay="found.zarr/worm/objects")` shows both in a browser.
# A stack on a disk that is larger than memory is ingested, trained on and labelled by the same
# lines; [ingest](../ingest.md), [augmentation](../augmentation.md) and
# [inference](../inference.md) say what else there is.
