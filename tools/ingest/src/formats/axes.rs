//! Which axis of an array is which, in formats that store arrays of any number of axes.

use std::ops::Range;

/// What an axis of an array is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axis {
    /// One element, which is taken.
    Single,
    Channel,
    Z,
    Y,
    X,
}

const SPACE: [Axis; 3] = [Axis::Z, Axis::Y, Axis::X];

/// The axes of an array that is a volume, with their lengths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Axes {
    axes: Vec<(Axis, usize)>,
    are_named: bool,
}

impl Axes {
    /// The axes with these names: `z`, `y`, `x` in this order, of which `z` may be absent, `c`
    /// before or behind them, and others of one element.
    ///
    /// # Errors
    /// A message about axes that are no volume.
    pub(crate) fn by_name(shape: &[usize], names: &[String]) -> Result<Self, String> {
        let axes = named(shape, names)?;
        let order: Vec<_> =
            axes.iter().map(|(axis, _)| *axis).filter(|a| *a != Axis::Single).collect();
        let space: Vec<_> = order.iter().copied().filter(|a| *a != Axis::Channel).collect();
        let ends = [order.first(), order.last()];
        let channels = order.len() - space.len();
        let is_outside = channels == 0 || ends.contains(&Some(&Axis::Channel));
        if !SPACE.ends_with(&space) || space.len() < 2 || channels > 1 || !is_outside {
            return Err(format!(
                "its axes are {names:?}: expected z, y, x in this order, and channels before or \
                 behind them; transpose it"
            ));
        }
        Ok(Self { axes, are_named: true })
    }

    /// The axes with these names in any order: `y` and `x`, perhaps `z` and `c`, and others of one
    /// element.
    ///
    /// # Errors
    /// As [`Axes::by_name`].
    #[cfg(feature = "zarr")]
    pub(crate) fn by_any_order(shape: &[usize], names: &[String]) -> Result<Self, String> {
        let axes = named(shape, names)?;
        let count = |wanted| axes.iter().filter(|(axis, _)| *axis == wanted).count();
        let [z, y, x] = SPACE.map(count);
        if z > 1 || y != 1 || x != 1 || count(Axis::Channel) > 1 {
            return Err(format!(
                "its axes are {names:?}: expected y and x, and z and c at most once"
            ));
        }
        Ok(Self { axes, are_named: true })
    }

    /// The lengths of the array's axes.
    #[cfg(feature = "zarr")]
    pub(crate) fn lengths(&self) -> Vec<usize> {
        self.axes.iter().map(|(_, n)| *n).collect()
    }

    /// What `numbers`, one for each axis of the array, say of `(c, z, y, x)`; `absent` for an axis
    /// that the array has not.
    #[cfg(feature = "zarr")]
    pub(crate) fn of_each(&self, numbers: &[usize], absent: usize) -> [usize; 4] {
        [Axis::Channel, Axis::Z, Axis::Y, Axis::X]
            .map(|axis| self.position(axis).map_or(absent, |at| numbers[at]))
    }

    /// The axes `(z, y, x)` or `(c, z, y, x)`, beside axes of one element in front.
    ///
    /// # Errors
    /// As [`Axes::by_name`].
    pub(crate) fn by_number(shape: &[usize]) -> Result<Self, String> {
        check_voxels(shape)?;
        let no_volume = || {
            format!("its shape {shape:?} is no volume (z, y, x), with or without channels in front")
        };
        let spare = shape.len().checked_sub(3).ok_or_else(no_volume)?;
        let mut axes: Vec<_> = shape[..spare].iter().map(|&n| (Axis::Single, n)).collect();
        let mut several = axes.iter_mut().filter(|(_, n)| *n > 1);
        if let Some(channels) = several.next() {
            channels.0 = Axis::Channel;
        }
        if several.next().is_some() {
            return Err(no_volume());
        }
        axes.extend(SPACE.into_iter().zip(shape[spare..].iter().copied()));
        Ok(Self { axes, are_named: false })
    }

    fn position(&self, wanted: Axis) -> Option<usize> {
        self.axes.iter().position(|(axis, _)| *axis == wanted)
    }

    fn length(&self, wanted: Axis) -> Option<usize> {
        self.position(wanted).map(|at| self.axes[at].1)
    }

    /// The number of axes of the array.
    pub(crate) fn count(&self) -> usize {
        self.axes.len()
    }

    /// The array's axes that are `(z, y, x)`.
    pub(crate) fn space(&self) -> [Option<usize>; 3] {
        SPACE.map(|axis| self.position(axis))
    }

    /// Extents in `(z, y, x)`.
    pub(crate) fn size(&self) -> [usize; 3] {
        SPACE.map(|axis| self.length(axis).unwrap_or(1))
    }

    /// Channels, or `None` without that axis.
    pub(crate) fn channels(&self) -> Option<usize> {
        self.length(Axis::Channel)
    }

    /// The channels that follow each other at every voxel.
    pub(crate) fn interleaved(&self) -> usize {
        let last = self.axes.iter().rfind(|(axis, _)| *axis != Axis::Single);
        last.filter(|(axis, _)| *axis == Axis::Channel).map_or(1, |(_, n)| *n)
    }

    /// Starts and counts of the planes of a group of channels.
    pub(crate) fn slice(&self, group: usize, z: &Range<usize>) -> (Vec<usize>, Vec<usize>) {
        let together = self.interleaved();
        let part = |&(axis, n): &(Axis, usize)| match axis {
            Axis::Z => (z.start, z.len()),
            Axis::Channel => (group * together, together),
            Axis::Single | Axis::Y | Axis::X => (0, n),
        };
        self.axes.iter().map(part).unzip()
    }

    /// A number for each axis of the array: one of those for `(c, z, y, x)`, or `single`.
    pub(crate) fn each(&self, [c, z, y, x]: [usize; 4], single: usize) -> Vec<usize> {
        let number = |&(axis, _): &(Axis, usize)| match axis {
            Axis::Single => single,
            Axis::Channel => c,
            Axis::Z => z,
            Axis::Y => y,
            Axis::X => x,
        };
        self.axes.iter().map(number).collect()
    }

    /// Says how axes without names were taken.
    pub(crate) fn notes(&self) -> Vec<String> {
        let has_channels = self.channels().is_some() && !self.are_named;
        let note = "its first axis of several elements is taken for channels";
        if has_channels { vec![note.to_owned()] } else { Vec::new() }
    }
}

/// The axes that names stand for.
fn named(shape: &[usize], names: &[String]) -> Result<Vec<(Axis, usize)>, String> {
    if names.len() != shape.len() {
        return Err(format!("its shape {shape:?} has not the axes {names:?}"));
    }
    check_voxels(shape)?;
    let mut axes = Vec::with_capacity(shape.len());
    for (name, &n) in names.iter().zip(shape) {
        let axis = match name.to_lowercase().as_str() {
            "z" => Axis::Z,
            "y" => Axis::Y,
            "x" => Axis::X,
            "c" => Axis::Channel,
            _ if n == 1 => Axis::Single,
            _ => return Err(format!("its axis {name:?} has {n} elements: extract one of them")),
        };
        axes.push((axis, n));
    }
    Ok(axes)
}

fn check_voxels(shape: &[usize]) -> Result<(), String> {
    if shape.contains(&0) { Err(format!("its shape {shape:?} has no voxels")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes(shape: &[usize], names: Option<&str>) -> Result<Axes, String> {
        match names {
            None => Axes::by_number(shape),
            Some(names) => {
                Axes::by_name(shape, &names.chars().map(String::from).collect::<Vec<_>>())
            }
        }
    }

    #[test]
    fn shapes_are_volumes_with_or_without_channels() {
        for (shape, names, size, channels, interleaved) in [
            (&[5, 6, 7][..], None, [5, 6, 7], None, 1),
            (&[2, 5, 6, 7], None, [5, 6, 7], Some(2), 1),
            (&[1, 2, 5, 6, 7], None, [5, 6, 7], Some(2), 1),
            (&[1, 1, 5, 6, 7], None, [5, 6, 7], None, 1),
            (&[5, 6, 7, 2], Some("zyxc"), [5, 6, 7], Some(2), 2),
            (&[1, 5, 6, 7, 1], Some("tzyxc"), [5, 6, 7], Some(1), 1),
            (&[2, 5, 6, 7], Some("czyx"), [5, 6, 7], Some(2), 1),
            (&[1, 2, 6, 7], Some("tcyx"), [1, 6, 7], Some(2), 1),
        ] {
            let axes = axes(shape, names).unwrap();
            assert_eq!(axes.size(), size, "{shape:?}");
            assert_eq!((axes.channels(), axes.interleaved()), (channels, interleaved));
        }
        for (shape, names) in [
            (&[5, 6][..], None),
            (&[2, 3, 5, 6, 7], None),
            (&[5, 0, 7], None),
            (&[5, 6, 7], Some("xyz")),
            (&[5, 2, 6, 7], Some("zcyx")),
            (&[4, 5, 6, 7], Some("tzyx")),
            (&[5, 6], Some("zy")),
            (&[2, 5, 6, 7, 2], Some("czyxc")),
        ] {
            assert!(axes(shape, names).is_err(), "{shape:?} {names:?}");
        }
    }

    #[cfg(feature = "zarr")]
    #[test]
    fn any_order_has_each_axis_once() {
        let by = |shape: &[usize], names: &str| {
            let names: Vec<_> = names.chars().map(String::from).collect();
            Axes::by_any_order(shape, &names)
        };
        for (shape, names, size, channels) in [
            (&[7, 6, 5][..], "xyz", [5, 6, 7], None),
            (&[5, 2, 6, 7], "zcyx", [5, 6, 7], Some(2)),
            (&[1, 6, 7], "tyx", [1, 6, 7], None),
            (&[6, 7, 3], "YXC", [1, 6, 7], Some(3)),
        ] {
            let axes = by(shape, names).unwrap();
            assert_eq!((axes.size(), axes.channels()), (size, channels), "{names}");
        }
        let axes = by(&[7, 6, 2, 5, 1], "xyczt").unwrap();
        assert_eq!(axes.of_each(&[1, 2, 3, 4, 5], 0), [3, 4, 2, 1]);
        for (shape, names) in [(&[5, 6][..], "zy"), (&[5, 6, 7], "yxx"), (&[4, 6, 7], "tyx")] {
            assert!(by(shape, names).is_err(), "{names}");
        }
    }

    #[test]
    fn a_slice_takes_planes_of_one_group() {
        let first = axes(&[1, 2, 5, 6, 7], None).unwrap();
        assert_eq!(first.slice(1, &(2..4)), (vec![0, 1, 2, 0, 0], vec![1, 1, 2, 6, 7]));
        let last = axes(&[5, 6, 7, 2], Some("zyxc")).unwrap();
        assert_eq!(last.slice(0, &(2..4)), (vec![2, 0, 0, 0], vec![2, 6, 7, 2]));
    }
}
