"""nnU-Net's preprocessed cases in a store, for ``nnUNetv2_train``.

``convert`` copies a preprocessed folder into one that has a store. Importing this module makes
nnU-Net read such folders, and its plugins do that: with ``nnUNet_extTrainer`` set to
``trainers_path()``, ``nnUNetv2_train … -tr nnUNetTrainerVoxquarry`` trains from the store.
``predict`` labels the images of a store with a trained model.
"""

from importlib.metadata import PackageNotFoundError, version

from .._extras import check_version, missing

try:
    check_version("nnunetv2", version("nnunetv2"), "2.8", "3", "nnunet")

    from .conversion import convert
    from .dataset import StoreDataset, trainers_path
    from .prediction import predict
except PackageNotFoundError as error:
    raise missing(ModuleNotFoundError(name="nnunetv2"), "nnunet") from error
except ModuleNotFoundError as error:
    raise missing(error, "nnunet") from error

__all__ = ["StoreDataset", "convert", "predict", "trainers_path"]
