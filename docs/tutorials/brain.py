"""# A brain: from a file to a trained network

A real T1 of a head becomes a store, a small network learns to find its grey matter from random
patches, and labels the whole head by a sliding window.
This page is a program, `docs/tutorials/brain.py`: what it prints and shows stands below each
part, as it was when the page was built.

The image is the MNI152 average, which the Python package nilearn contains; `t1` and `grey` are the
paths of two NIfTI files: the T1, and a map of how much of each voxel is grey matter.
"""

# %% [markdown]
# ## The files
#
# `tools/demo.py` of the repository takes them out of the package's wheel.

# %%
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from demo import fetch_images

t1, grey = fetch_images()
print(t1.name, grey.name)

# %% [markdown]
# ## Into a store
#
# Arrays, images of nibabel and paths may be mixed.
# `patch_size` says how the store will be read; chunks and shards follow from it.

# %%
import nibabel
import numpy as np
import voxquarry as vq

probability = nibabel.load(grey)
mask = (probability.get_fdata() > probability.get_fdata().max() / 2).astype(np.uint8)
labels = vq.Labels(nibabel.Nifti1Image(mask, probability.affine))
ds = vq.ingest({"head": {"t1": t1, "grey": labels}}, "store.zarr", patch_size=32)
print(ds["head"]["t1"], ds["head"]["grey"], sep="\n")

# %% [markdown]
# The patient's right is on the left; the labels are drawn over the image.

# %%
ds["head"]["t1"].show(at="labels")

# %% [markdown]
# ## Patches
#
# Half of the patches are centred on grey matter, half on something else.
# The queue normalises them as it reads them, on its own threads: no worker process is needed.

# %%
import torch
import voxquarry.torch

sampler = vq.LabelSampler(16, "grey", {0: 1, 1: 1})
queue = vq.Queue(
    ds,
    sampler,
    volumes=["t1", "grey"],
    patches_per_subject=256,
    batch_size=16,
    seed=0,
    normalize="zscore",
    dtype="float32",
)
batches = voxquarry.torch.loader(queue)
batch = next(iter(batches))
print(batch["t1"].shape, batch["t1"].dtype, batch["grey"].float().mean())

# %% [markdown]
# ## Training
#
# A toy: three convolutions, on the CPU, for some seconds.

# %%
torch.manual_seed(0)
network = torch.nn.Sequential(
    torch.nn.Conv3d(1, 8, 3, padding=1),
    torch.nn.BatchNorm3d(8),
    torch.nn.ReLU(),
    torch.nn.Conv3d(8, 8, 3, padding=1),
    torch.nn.BatchNorm3d(8),
    torch.nn.ReLU(),
    torch.nn.Conv3d(8, 2, 1),
)
optimizer = torch.optim.Adam(network.parameters(), 1e-2)
losses = []
for epoch in range(12):
    for batch in batches:
        answer = network(batch["t1"])
        loss = torch.nn.functional.cross_entropy(answer, batch["grey"][:, 0].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"epoch {epoch}: {np.mean(losses[-16:]):.3f}")

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(6, 2.5), layout="constrained")
axes.plot(losses)
axes.set(xlabel="batch", ylabel="cross-entropy", ylim=(0, None))
figure

# %% [markdown]
# ## The whole head
#
# `infer` slides the network over the volume and blends what it says; `argmax` makes labels of it.
# The volume is normalised as the patches were: by the statistics that ingest recorded.

# %%
stats = ds["head"]["t1"].stats
network.eval()


def model(patches):
    return network((patches.float() - stats["mean"]) / stats["std"])


found = voxquarry.torch.infer(
    model, ds["head"]["t1"], 64, overlap=0.125, finish="argmax", out="found.zarr/head/grey"
)
truth = ds["head"]["grey"][...] > 0
dice = 2 * np.sum(truth & (found[...] > 0)) / (truth.sum() + np.sum(found[...] > 0))
print(f"Dice {dice:.3f} on the head that it was trained on")

# %%
found.show(at="middle")

# %% [markdown]
# A real network learns from many heads and is tried on others: the lines stay the same.
# [Training](../pytorch.md), [augmentation](../augmentation.md) and [inference](../inference.md) say
# what else there is.
