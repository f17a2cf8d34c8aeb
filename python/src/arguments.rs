//! Converts arguments as the field writes them: `96` or `(24, 256, 256)`, `"256MiB"`, padding by
//! name or number.

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyString};
use voxquarry::{Channels, Dtype, Padding, Size3};

use crate::errors::{invalid, raise, unsupported};

/// An int for a cube, or three of them.
pub(crate) fn size3(value: &Bound<'_, PyAny>, what: &'static str) -> PyResult<Size3> {
    voxels3(value, what, 1)
}

/// Voxels along each axis, `least` or more.
pub(crate) fn voxels3(value: &Bound<'_, PyAny>, what: &'static str, least: i64) -> PyResult<Size3> {
    refuse_text(value, what)?;
    let voxels = match value.extract::<i64>() {
        Ok(n) => [n; 3],
        Err(_) => value
            .extract::<[i64; 3]>()
            .map_err(|_| invalid(what, value, "an int, or three for (z, y, x)"))?,
    };
    if voxels.iter().any(|&n| n < least) {
        return Err(invalid(what, value, format!("at least {least} for every axis")));
    }
    Ok(voxels.map(|n| n as usize))
}

/// Refuses texts, which are sequences to Python: `"96"` is no size of 9 and 6.
fn refuse_text(value: &Bound<'_, PyAny>, what: &'static str) -> PyResult<()> {
    if value.is_instance_of::<PyString>() || value.is_instance_of::<PyBytes>() {
        let found = value.repr()?;
        return Err(invalid(what, found, "an int, or three for (z, y, x), not a text"));
    }
    Ok(())
}

/// One size, or a sequence of sizes: `96`, `(24, 256, 256)`, `[96, (1, 512, 512)]`.
pub(crate) fn sizes(value: &Bound<'_, PyAny>, what: &'static str) -> PyResult<Vec<Size3>> {
    refuse_text(value, what)?;
    if let Ok(size) = size3(value, what) {
        return Ok(vec![size]);
    }
    // Three numbers are one size; the error about that size is the clearest.
    let several = value.try_iter().ok().and_then(|items| items.collect::<PyResult<Vec<_>>>().ok());
    match several {
        Some(items) if items.iter().any(|i| i.extract::<i64>().is_err()) => {
            items.iter().map(|i| size3(i, what)).collect()
        }
        _ => size3(value, what).map(|size| vec![size]),
    }
}

/// The number of a level.
pub(crate) fn level_number(level: i64) -> PyResult<usize> {
    usize::try_from(level).map_err(|_| invalid("level", level, "0 or more; volume.levels has them"))
}

/// An int from 0 to 2**64 - 1.
pub(crate) fn natural(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    value.extract::<u64>().map_err(|error| {
        if error.is_instance_of::<PyOverflowError>(value.py()) {
            invalid("argument", value, "an int from 0 to 2**64 - 1")
        } else {
            error
        }
    })
}

/// Bytes as an int or a string with a unit, such as ``"1GiB"``.
#[pyfunction]
pub(crate) fn byte_count(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    bytes(value, "bytes")
}

/// Bytes as an int or a string with a unit.
pub(crate) fn bytes(value: &Bound<'_, PyAny>, what: &'static str) -> PyResult<u64> {
    if let Ok(n) = value.extract::<u64>() {
        return Ok(n);
    }
    match value.extract::<String>() {
        Ok(text) => voxquarry_ingest::parse_bytes(&text).map_err(raise),
        Err(_) => Err(invalid(what, value, "bytes as an int, or a string such as \"256MiB\"")),
    }
}

/// A dtype, or whatever numpy makes one of.
pub(crate) fn dtype(value: &Bound<'_, PyAny>) -> PyResult<Dtype> {
    let name = value
        .py()
        .import("numpy")?
        .call_method1("dtype", (value,))
        .and_then(|dtype| dtype.getattr("name")?.extract::<String>());
    name.ok().and_then(|name| Dtype::from_name(&name)).ok_or_else(|| {
        let known = Dtype::ALL.map(Dtype::name).join(", ");
        invalid("dtype", value, format!("one of {known}"))
    })
}

/// `None`, a number, `"edge"` or `"reflect"`.
pub(crate) fn padding(value: Option<&Bound<'_, PyAny>>) -> PyResult<Padding> {
    let Some(value) = value else { return Ok(Padding::None) };
    let refused = || invalid("padding", value, "None, a number, \"edge\" or \"reflect\"");
    if let Ok(name) = value.cast::<PyString>() {
        return match name.to_str()? {
            "edge" => Ok(Padding::Edge),
            "reflect" => Ok(Padding::Reflect),
            _ => Err(refused()),
        };
    }
    value.extract::<f64>().map(Padding::Constant).map_err(|_| refused())
}

/// The value that a table lists under `name`.
pub(crate) fn named<T: Copy>(table: &[(&str, T)], what: &'static str, name: &str) -> PyResult<T> {
    table.iter().find(|(known, _)| *known == name).map(|&(_, value)| value).ok_or_else(|| {
        let mut known: Vec<String> = table.iter().map(|(known, _)| format!("{known:?}")).collect();
        let last = known.pop().unwrap_or_default();
        invalid(what, format!("{name:?}"), format!("{} or {last}", known.join(", ")))
    })
}

/// The name of `value` in a table that lists every value.
pub(crate) fn name_of<T: PartialEq>(table: &[(&'static str, T)], value: T) -> &'static str {
    table.iter().find(|(_, known)| *known == value).expect("every value has a name").0
}

/// One start, `(z, y, x)`: integers in a sequence, an array, a tensor, or whatever else numpy makes
/// an array of.
pub(crate) fn start(value: &Bound<'_, PyAny>) -> PyResult<[i64; 3]> {
    // Those are no sequences to PyO3, but they can be listed.
    let listed = || {
        let array = if value.hasattr("tolist")? {
            value.clone()
        } else {
            value.py().import("numpy")?.call_method1("asarray", (value,))?
        };
        array.call_method0("tolist")?.extract()
    };
    value.extract().or_else(|error| listed().map_err(|_: PyErr| error))
}

/// Starts: one `(z, y, x)` for each patch, as an array of integers or nested sequences.
pub(crate) fn starts(value: &Bound<'_, PyAny>) -> PyResult<Vec<[i64; 3]>> {
    let refused = || unsupported("starts", "expected integers of shape (n, 3), in (z, y, x)");
    if let Ok(array) = value.extract::<numpy::PyReadonlyArray2<'_, i64>>() {
        let array = array.as_array();
        if array.ncols() != 3 {
            return Err(refused());
        }
        return Ok(array.rows().into_iter().map(|row| [row[0], row[1], row[2]]).collect());
    }
    if let Ok(starts) = value.extract::<Vec<[i64; 3]>>() {
        return Ok(starts);
    }
    // Arrays of other integer types, and empty lists.
    let numpy = value.py().import("numpy")?;
    let array = numpy.call_method1("asarray", (value,))?;
    if array.getattr("size")?.extract::<usize>()? == 0 {
        return Ok(Vec::new());
    }
    let kind: String = array.getattr("dtype")?.getattr("kind")?.extract()?;
    if !matches!(kind.as_str(), "i" | "u") {
        return Err(refused());
    }
    array
        .call_method1("astype", ("int64",))?
        .call_method0("tolist")?
        .extract()
        .map_err(|_| refused())
}

/// Channels by number: an int, or several, each once.
pub(crate) fn channels(value: &Bound<'_, PyAny>) -> PyResult<Channels> {
    let refused = || invalid("channels", value, "the number of a channel, or a list of them");
    if value.is_instance_of::<PyString>() || value.is_instance_of::<PyBool>() {
        return Err(refused());
    }
    let numbers = if let Ok(number) = value.extract::<usize>() {
        vec![number]
    } else {
        let numbers = value.try_iter().map_err(|_| refused())?;
        numbers.map(|number| number?.extract()).collect::<PyResult<_>>().map_err(|_| refused())?
    };
    Channels::new(numbers).map_err(raise)
}
