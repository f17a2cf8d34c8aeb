"""DICOM: voxels as pydicom reads them, geometry as SimpleITK and highdicom have it, over the files
that pydicom's packages hold and series that are written here.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import data_store
import highdicom as hd
import numpy as np
import pydicom
import pydicom.data
import pytest
import SimpleITK as sitk
from pydicom.dataset import FileDataset
from pydicom.pixels import pixel_array
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

import voxquarry as vq

# pydicom warns of what its own files break.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def affine_of(image: sitk.Image) -> np.ndarray:
    """SimpleITK's geometry as an affine from voxel (x, y, z) to RAS+."""
    affine = np.eye(4)
    directions = np.array(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = directions * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return LPS_TO_RAS @ affine


def ct_slice(number: int, pixels: np.ndarray, z: float, series: str) -> FileDataset:
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{series}.{number + 1}"
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    image.StudyInstanceUID, image.SeriesInstanceUID = f"{series}.0", series
    image.FrameOfReferenceUID = f"{series}.0.1"
    image.Modality, image.InstanceNumber, image.SeriesNumber = "CT", number + 1, 3
    image.PatientName, image.PatientID = "Mustermann^Max", "4711"
    image.PatientBirthDate, image.PatientSex = "19610203", "O"
    image.StudyDate, image.StudyTime = "20260102", "101112"
    image.StudyID, image.AccessionNumber = "1", "2"
    image.Manufacturer, image.ReferringPhysicianName = "none", ""
    image.ImagePositionPatient = [-40.5, -30.25, z]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.PixelSpacing, image.SliceThickness = [0.75, 0.5], 2.5
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = 1
    image.RescaleSlope, image.RescaleIntercept = 1, -1024
    image.PixelData = pixels.astype("<i2").tobytes()
    return image


@pytest.fixture
def series(tmp_path: Path) -> tuple[Path, np.ndarray, list[FileDataset]]:
    voxels = np.random.default_rng(1).integers(-1000, 3000, (9, 21, 34), dtype="i2")
    folder, uid = tmp_path / "scan", "1.2.826.0.1.3680043.8.498.7"
    folder.mkdir()
    images = [ct_slice(i, voxels[i], 2.5 * i - 7, uid) for i in range(len(voxels))]
    for i, image in enumerate(images):
        image.save_as(folder / f"{(i * 7 + 3) % 9}.dcm", enforce_file_format=True)
    return folder, voxels, images


def test_a_series_has_the_geometry_of_simpleitk(
    series: tuple[Path, np.ndarray, list[FileDataset]], tmp_path: Path
) -> None:
    folder, voxels, _ = series
    volume = vq.ingest(str(folder), str(tmp_path / "s.zarr"))["scan"]["ct"]
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = sitk.ReadImage(names)
    np.testing.assert_array_equal(volume[:], voxels)
    scaled = volume[:] * volume.slope + volume.intercept
    np.testing.assert_array_equal(scaled, sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(volume.affine, affine_of(image), atol=1e-9)
    assert tuple(volume.spacing) == (2.5, 0.75, 0.5)


@pytest.mark.parametrize("overlap", [False, True])
def test_a_segmentation_of_highdicom_lies_on_its_series(
    series: tuple[Path, np.ndarray, list[FileDataset]], tmp_path: Path, overlap: bool
) -> None:
    folder, voxels, images = series
    masks = np.zeros((*voxels.shape, 2), bool)
    masks[2:5, 3:9, 4:20, 0] = True
    masks[4:7, 8 if overlap else 10 : 15, 2:9, 1] = True
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, label in [(1, "Liver"), (2, "Spleen")]
    ]
    seg = hd.seg.Segmentation(
        source_images=images,
        pixel_array=masks.astype("u1"),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=generate_uid(),
        series_number=4,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=True,
    )
    seg.save_as(folder / "seg.dcm")
    subject = vq.ingest(str(folder), str(tmp_path / "s.zarr"))["scan"]
    assert list(subject) == ["ct", "seg"]
    volume = subject["seg"]
    assert volume.label_names == {1: "Liver", 2: "Spleen"}
    np.testing.assert_array_equal(volume.affine, subject["ct"].affine)
    if overlap:
        expected = np.stack([masks[..., 0] * 1, masks[..., 1] * 2])
    else:
        expected = masks[..., 0] * 1 + masks[..., 1] * 2
    np.testing.assert_array_equal(volume[:], expected)


def corpus() -> list[Path]:
    """The files of pydicom's package, and of its package of data, that have pixels."""
    roots = [Path(pydicom.data.__file__).parent / "test_files", Path(data_store.__file__).parent]
    return [path for root in roots for path in sorted(root.rglob("*.dcm"))]


def oracle(path: Path) -> np.ndarray | None:
    """The stored samples ``(c, z, y, x)``; ``None`` if neither pydicom nor SimpleITK reads them."""
    image = pydicom.dcmread(path, force=True)
    if not image.get("Rows"):
        return None
    samples = image.get("SamplesPerPixel", 1)
    try:
        pixels = pixel_array(path, raw=samples == 1)
    except Exception:
        # SimpleITK scales.
        scales = [image.get("RescaleSlope", 1) == 1, image.get("RescaleIntercept", 0) == 0]
        if not all(scales) or "DoseGridScaling" in image:
            return None
        try:
            pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        except RuntimeError:
            return None
    planes = pixels.reshape(-1, image.Rows, image.Columns, samples)
    return np.moveaxis(planes, -1, 0)


def test_the_files_of_pydicom_are_read_or_refused_by_name(tmp_path: Path) -> None:
    """Frames may come in another order, that of their places; colours of JPEG may be off by 3."""
    files = {f"f{number:03}": path for number, path in enumerate(corpus())}
    sources = {name: {"image": str(path)} for name, path in files.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = vq.ingest(sources, str(tmp_path / "s.zarr"), keep_going=True, patch_size=32)
        failed = {failure.subject: failure.error for failure in ds.report.failed}
        equal = 0
        for name in ds:
            expected = oracle(files[name])
            volume = ds[name]["image"]
            found = volume[:].reshape(-1, *volume.shape[-3:])
            if expected is None or expected.shape != found.shape:
                continue
            planes = [np.moveaxis(one, 1, 0) for one in (found, expected)]
            for plane in planes[0]:
                near = [np.abs(plane.astype("f8") - other).max() for other in planes[1]]
                assert min(near) <= (3 if len(found) == 3 else 0), files[name]
            equal += 1
    assert equal >= 120, (equal, len(failed))
    for name, error in failed.items():
        image = pydicom.dcmread(files[name], force=True)
        if "PixelData" in image and image.get("Rows"):
            expected = "JPEG|decoder|samples of|ends within|promises|describes|frame 1"
            assert any(word in str(error) for word in expected.split("|")), (files[name], error)
