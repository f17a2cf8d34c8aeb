//! The frames of a file with several: their functional groups (PS3.3, C.7.6.16), the offsets of a
//! dose grid, and the stacks of older objects.

use super::bits::Rescale;
use super::dataset::DataSet;
use super::frame::{Frame, FramePlane, along};
use super::tags::{self, Tag};

/// Dimensions that are positions.
const POSITIONS: [Tag; 3] =
    [tags::IN_STACK_POSITION_NUMBER, tags::IMAGE_POSITION_PATIENT, tags::STACK_ID];

/// The frames of a file, all of which are as `base` unless their groups say otherwise.
///
/// # Errors
/// What is missing or wrong.
pub(super) fn frames_of(data: &DataSet, count: usize, base: &Frame) -> Result<Vec<Frame>, String> {
    let groups = data.items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
    if !groups.is_empty() {
        if groups.len() != count {
            let found = groups.len();
            return Err(format!("it describes {found} frames, and has {count}"));
        }
        let dimensions: Vec<_> = data
            .items(tags::DIMENSION_INDEX_SEQUENCE)
            .iter()
            .map(|item| item.tag(tags::DIMENSION_INDEX_POINTER).unwrap_or_default())
            .collect();
        let shared = data.item(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE);
        let frame = |(number, own)| {
            let groups = FunctionalGroups { own, shared };
            groups.frame(Frame { number, order: Some(number as i64), ..base.clone() }, &dimensions)
        };
        return Ok(groups.iter().enumerate().map(frame).collect());
    }
    let offsets = match data.decimals(tags::GRID_FRAME_OFFSET_VECTOR) {
        Some(offsets) => dose_offsets(offsets, &base.plane),
        None => base.plane.step.map(|step| (0..count).map(|i| i as f64 * step).collect()),
    };
    let offsets = offsets.filter(|_| count > 1);
    if let Some(offsets) = &offsets
        && offsets.len() != count
    {
        return Err(format!("it has {count} frames, and offsets of {}", offsets.len()));
    }
    let frame = |number: usize| {
        let order = if count > 1 { Some(number as i64) } else { base.order };
        let mut frame = Frame { number, order, ..base.clone() };
        let shift = offsets.as_ref().map(|offsets| offsets[number]);
        frame.plane.position = match (base.plane.position, base.plane.normal(), shift) {
            (Some(position), Some(normal), Some(shift)) => Some(along(position, normal, shift)),
            (position, _, _) => position.filter(|_| count == 1),
        };
        frame
    };
    Ok((0..count).map(frame).collect())
}

/// The offsets of a dose's frames from its first (PS3.3, C.8.8.3.2): they are relative if the first
/// is 0, otherwise patient coordinates.
fn dose_offsets(offsets: Vec<f64>, plane: &FramePlane) -> Option<Vec<f64>> {
    let first = offsets.first().copied()?;
    if first == 0.0 {
        return Some(offsets);
    }
    // Coordinates along z, which the normal may run against.
    let sign = plane.normal()?[2].signum();
    Some(offsets.into_iter().map(|z| (z - first) * sign).collect())
}

/// The functional groups of a frame, and those that all frames share.
struct FunctionalGroups<'a> {
    own: &'a DataSet,
    shared: Option<&'a DataSet>,
}

impl FunctionalGroups<'_> {
    fn group(&self, tag: Tag) -> Option<&DataSet> {
        self.own.item(tag).or_else(|| self.shared?.item(tag))
    }

    fn frame(&self, mut frame: Frame, dimensions: &[Tag]) -> Frame {
        let plane = &mut frame.plane;
        if let Some(measures) = self.group(tags::PIXEL_MEASURES_SEQUENCE) {
            plane.spacing = measures.spacing(tags::PIXEL_SPACING).or(plane.spacing);
            plane.thickness = measures.decimal(tags::SLICE_THICKNESS).or(plane.thickness);
            plane.step = measures.decimal(tags::SPACING_BETWEEN_SLICES).or(plane.step);
        }
        let orientation = self.group(tags::PLANE_ORIENTATION_SEQUENCE);
        plane.orientation = orientation
            .and_then(|o| o.decimals_of(tags::IMAGE_ORIENTATION_PATIENT))
            .or(plane.orientation);
        let position = self.group(tags::PLANE_POSITION_SEQUENCE);
        plane.position = position.and_then(|p| p.decimals_of(tags::IMAGE_POSITION_PATIENT));
        if let Some(values) = self.group(tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE) {
            frame.rescale = rescale_of(values);
        }
        if let Some(content) = self.group(tags::FRAME_CONTENT_SEQUENCE) {
            let indices = content.u32s(tags::DIMENSION_INDEX_VALUES);
            let others = indices.iter().zip(dimensions);
            let others = others.filter(|(_, pointer)| !POSITIONS.contains(pointer));
            frame.phase.dimensions = others.map(|(index, _)| *index).collect();
            let temporal = content.u32s(tags::TEMPORAL_POSITION_INDEX).first().copied();
            frame.phase.temporal = temporal.map(i64::from);
        }
        let types = [
            tags::MR_IMAGE_FRAME_TYPE_SEQUENCE,
            tags::CT_IMAGE_FRAME_TYPE_SEQUENCE,
            tags::PET_FRAME_TYPE_SEQUENCE,
        ];
        if let Some(kind) = types.into_iter().find_map(|tag| self.group(tag)) {
            frame.kind = kind_of(kind, tags::FRAME_TYPE).into();
        }
        if let Some(echo) = self.group(tags::MR_ECHO_SEQUENCE) {
            frame.echo = echo.doubles(tags::EFFECTIVE_ECHO_TIME).first().copied();
        }
        if let Some(diffusion) = self.group(tags::MR_DIFFUSION_SEQUENCE) {
            let gradient = diffusion.item(tags::DIFFUSION_GRADIENT_SEQUENCE);
            frame.phase.diffusion = diffusion_of(diffusion, gradient.unwrap_or(diffusion));
        }
        if let Some(segment) = self.group(tags::SEGMENT_IDENTIFICATION_SEQUENCE) {
            frame.segment = segment.u16(tags::REFERENCED_SEGMENT_NUMBER).unwrap_or_default();
        }
        frame
    }
}

/// Slope and intercept; those that are absent change nothing.
pub(super) fn rescale_of(data: &DataSet) -> Rescale {
    let slope = data.decimal(tags::RESCALE_SLOPE).filter(|slope| *slope != 0.0).unwrap_or(1.0);
    Rescale { slope, intercept: data.decimal(tags::RESCALE_INTERCEPT).unwrap_or(0.0) }
}

/// The third and later words of an image's or frame's type, and the component of complex numbers.
pub(super) fn kind_of(data: &DataSet, image_type: Tag) -> String {
    let mut words = data.words(image_type).split_off(2.min(data.words(image_type).len()));
    words.push(data.word(tags::COMPLEX_IMAGE_COMPONENT));
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

/// The b-value and the direction of a gradient.
pub(super) fn diffusion_of(data: &DataSet, gradient: &DataSet) -> Vec<f64> {
    let mut diffusion = data.doubles(tags::DIFFUSION_B_VALUE);
    diffusion.truncate(1);
    diffusion.extend(gradient.doubles(tags::DIFFUSION_GRADIENT_ORIENTATION));
    diffusion
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dose_has_offsets_or_coordinates() {
        let plane = |sign: f64| FramePlane {
            orientation: Some([1.0, 0.0, 0.0, 0.0, sign, 0.0]),
            ..FramePlane::default()
        };
        let offsets = |sign, offsets: &[f64]| dose_offsets(offsets.to_vec(), &plane(sign)).unwrap();
        assert_eq!(offsets(1.0, &[0.0, 2.5, 5.0]), [0.0, 2.5, 5.0]);
        assert_eq!(offsets(-1.0, &[0.0, 2.5, 5.0]), [0.0, 2.5, 5.0]);
        assert_eq!(offsets(1.0, &[-30.0, -27.5]), [0.0, 2.5]);
        assert_eq!(offsets(-1.0, &[-30.0, -27.5]), [0.0, -2.5]);
    }
}
