"""``StoreDataset``: the dataset class by which nnU-Net reads cases from a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_pickle, write_pickle
from nnunetv2.training.dataloading import nnunet_dataset
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset, nnUNetDatasetBlosc2

from .. import Dataset, Labels, Volume, ingest
from .. import open as open_store
from .._types import Size

# nnU-Net chooses the class by the one file ending in a folder of cases.
_ENDING = "voxquarry"
STORE = "store.zarr"
DATA, SEG = "data", "seg"


class StoreDataset(nnUNetBaseDataset):
    """Preprocessed cases in the store ``store.zarr`` of a folder: a subject for each case, with the
    volumes ``data`` and ``seg``, ``(c, z, y, x)`` in the axes of nnU-Net's arrays.

    A training patch reads only its own voxels. A case's properties stay in a file beside the
    store, ``case01.pkl``, as in nnU-Net's other datasets. Predictions of a previous stage are
    nnU-Net's own files.

    Args:
        folder: The folder of the configuration, such as ``nnUNetPlans_3d_fullres``.
        identifiers: Names of the cases; all of the store if None.
        folder_with_segs_from_previous_stage: As for nnU-Net's datasets.

    Raises:
        FileNotFoundError: A folder without a store.
    """

    def __init__(
        self,
        folder: str,
        identifiers: list[str] | None = None,
        folder_with_segs_from_previous_stage: str | None = None,
    ) -> None:
        super().__init__(folder, identifiers, folder_with_segs_from_previous_stage)
        # nnU-Net's own processes read side by side.
        self.store: Dataset = open_store(Path(folder, STORE), threads=1)

    def load_case(self, identifier: str) -> tuple[Any, Any, Any, dict[str, Any]]:
        """Opens a case; voxels are read when what is returned is sliced.

        Returns:
            data, segmentation, segmentation of the previous stage or None, and properties.

        Raises:
            KeyError: No such case.
        """
        case = self.store[identifier]
        previous = self.folder_with_segs_from_previous_stage
        return (
            StoredArray(case[DATA]),
            StoredArray(case[SEG]),
            None if previous is None else _previous(previous, identifier),
            load_pickle(str(Path(self.source_folder, f"{identifier}.pkl"))),
        )

    @staticmethod
    def save_case(
        data: np.ndarray,
        seg: np.ndarray,
        properties: dict[str, Any],
        output_filename_truncated: str,
        patch_size: Size = 96,
        spacing: tuple[float, ...] | None = None,
    ) -> None:
        """Writes a case, replacing one of its name.

        Args:
            data, seg: ``(c, z, y, x)``; anything that is sliced like an array.
            properties: Whatever nnU-Net keeps of a case.
            output_filename_truncated: The folder of the configuration and the name of the case.
            patch_size: What will be read from the store.
            spacing: Distance of voxels along ``(z, y, x)``.
        """
        folder, name = Path(output_filename_truncated).parent, Path(output_filename_truncated).name
        write_pickle(properties, f"{output_filename_truncated}.pkl")
        ingest(
            {name: {DATA: data, SEG: Labels(seg)}},
            folder / STORE,
            patch_size,
            spacing=spacing,
            overwrite=True,
        )
        (folder / f"{STORE}.{_ENDING}").touch()

    @staticmethod
    def save_seg(seg: np.ndarray, output_filename_truncated: str, **options: Any) -> None:
        """Writes a prediction for the next stage as nnU-Net does."""
        nnUNetDatasetBlosc2.save_seg(seg, output_filename_truncated, **options)

    @staticmethod
    def get_identifiers(folder: str) -> list[str]:
        """The names of all cases."""
        return list(open_store(Path(folder, STORE)))


class StoredArray:
    """A volume as nnU-Net's crops and predictors use an array: ``array[:, 3:9, …]`` reads that
    part.
    """

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.shape, self.ndim, self.dtype = volume.shape, volume.ndim, volume.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self.volume[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.volume[...], dtype)


def trainers_path() -> str:
    """The folder for nnU-Net's variable ``nnUNet_extTrainer``, where it finds
    ``nnUNetTrainerVoxquarry``.
    """
    return str(Path(__file__).parent / "trainers")


def _previous(folder: str, identifier: str) -> Any:
    import blosc2

    return blosc2.open(str(Path(folder, f"{identifier}.b2nd")), mode="r", dparams={"nthreads": 1})


nnunet_dataset.file_ending_dataset_mapping[_ENDING] = StoreDataset
