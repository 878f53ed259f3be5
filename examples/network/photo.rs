//! A photograph becomes the pixels that a network reads: decoded, upright, cropped, resized.

use std::path::Path;

use depthwise::Shape;
use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, ImageDecoder, ImageReader, ImageResult, Luma, RgbImage};

use crate::arch::{Input, Result};

/// The pixels `[h, w, c]` of the file at `path`, in the size and the colours that `input` asks for.
pub fn load(path: &Path, input: &Input) -> Result<Vec<u8>> {
    let in_file = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let photo = decode(path).map_err(|error| in_file(&error))?.into_rgb8();
    let Shape { c, h, w, .. } = input.shape;
    let size = |length| u32::try_from(length).map_err(|_| in_file(&format!("can not be resized to {length}")));
    let (h, w) = (size(h)?, size(w)?);
    match c {
        1 => Ok(fit(&grey(&photo), input.central_crop, w, h).into_raw()),
        3 => Ok(fit(&photo, input.central_crop, w, h).into_raw()),
        _ => Err(in_file(&format!("the network reads {c} channels, a photograph gives 1 or 3"))),
    }
}

fn decode(path: &Path) -> ImageResult<DynamicImage> {
    let mut decoder = ImageReader::open(path)?.with_guessed_format()?.into_decoder()?;
    // Cameras store photographs as the sensor saw them and note which way is up.
    let orientation = decoder.orientation()?;
    let mut photo = DynamicImage::from_decoder(decoder)?;
    photo.apply_orientation(orientation);
    Ok(photo)
}

/// ITU-R 601 luma in Pillow's fixed-point arithmetic (`image` itself weighs the colours by BT.709).
fn grey(photo: &RgbImage) -> GrayImage {
    GrayImage::from_fn(photo.width(), photo.height(), |x, y| {
        let [r, g, b] = photo.get_pixel(x, y).0.map(u32::from);
        Luma([((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16) as u8])
    })
}

/// Cuts out the central square, if one is asked for, and resizes by the bicubic filter of a = −0.5
/// (widened when shrinking), which is Pillow's `BICUBIC`.
fn fit<P>(photo: &image::ImageBuffer<P, Vec<u8>>, crop: Option<f64>, w: u32, h: u32) -> image::ImageBuffer<P, Vec<u8>>
where
    P: image::Pixel<Subpixel = u8> + 'static,
{
    let (width, height) = photo.dimensions();
    match crop {
        None => imageops::resize(photo, w, h, FilterType::CatmullRom),
        Some(share) => {
            let side = ((share * f64::from(width.min(height))).floor() as u32).max(1);
            let (left, top) = ((width - side).div_ceil(2), (height - side).div_ceil(2));
            let square = imageops::crop_imm(photo, left, top, side, side);
            imageops::resize(&*square, w, h, FilterType::CatmullRom)
        }
    }
}
