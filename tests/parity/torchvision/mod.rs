//! DINOv2's pictures as SGP-RL makes them: byte for byte torchvision's Resize and CenterCrop.

use models::encoder::Encoder;
use models::image::Rgb8;
use tch::{Device, Kind};

use crate::support::{expected_of, fixture, ints};

/// The picture of make.py.
fn picture(width: usize, height: usize) -> Rgb8 {
    let mut data = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            data.extend((0..3).map(|c| ((x * 7 + y * 13 + c * 85 + x * y / 3) % 256) as u8));
        }
    }
    Rgb8 {
        width,
        height,
        data,
    }
}

#[test]
fn pictures_are_resized_and_cropped_as_torchvision_does() {
    let expected = expected_of(&fixture("parity/torchvision"));
    let path = fixture("parity/encoders/dinov2");
    let mut encoder = Encoder::load(&path, (Kind::Float, Device::Cpu)).unwrap();
    encoder.use_torchvision().unwrap();
    let sizes = ints(&expected["sizes"].view([-1]));
    for (index, size) in sizes.chunks(2).enumerate() {
        let made = encoder
            .fit(&picture(size[0] as usize, size[1] as usize))
            .unwrap();
        let want = expected["pictures"].get(index as i64).view([-1]);
        let want = Vec::<u8>::try_from(want).unwrap();
        assert_eq!((made.width, made.height), (42, 42));
        let differ = made.data.iter().zip(&want).filter(|(a, b)| a != b).count();
        assert_eq!(differ, 0, "bytes that differ of {size:?}");
    }
}

#[test]
fn torchvisions_transform_is_for_dinov2_alone() {
    let path = fixture("parity/encoders/siglip");
    let mut encoder = Encoder::load(&path, (Kind::Float, Device::Cpu)).unwrap();
    let said = encoder.use_torchvision().unwrap_err().to_string();
    assert!(said.contains("DINOv2"), "{said}");
}
