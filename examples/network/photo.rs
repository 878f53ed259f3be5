//! A photograph becomes the pixels that a network reads: decoded, upright, cropped, resized.

use std::path::Path;

use depthwise::Shape;
use image::error::{ImageFormatHint, UnsupportedErrorKind};
use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Luma, RgbImage};

use crate::arch::{Input, Result};

/// The most memory, in bytes, that one photograph may take: a small file can declare a huge one.
const MAX_MEMORY: f64 = 1e9;

/// The pixels `[h, w, c]` of the file at `path`, in the size and the colours that `input` asks for.
pub fn load(path: &Path, input: &Input) -> Result<Vec<u8>> {
    load_as(path, input.shape, input.central_crop)
}

/// As [`load`], for a network of that input, cropped to that share.
pub fn load_as(path: &Path, shape: Shape, central_crop: Option<f64>) -> Result<Vec<u8>> {
    let in_file = |error: String| format!("{}: {error}", path.display());
    let Shape { c, h, w, .. } = shape;
    let size = |length| u32::try_from(length).map_err(|_| in_file(format!("can not be resized to {length}")));
    let (h, w) = (size(h)?, size(w)?);
    let photo = decode(path, h).map_err(in_file)?.into_rgb8();
    match c {
        1 => Ok(fit(&grey(&photo), central_crop, w, h).into_raw()),
        3 => Ok(fit(&photo, central_crop, w, h).into_raw()),
        _ => Err(in_file(format!("the network reads {c} channels, a photograph gives 1 or 3"))),
    }
}

/// The photograph, upright. `rows` is the height that it will be resized to.
fn decode(path: &Path, rows: u32) -> Result<DynamicImage> {
    let file_size = std::fs::metadata(path).map_err(|error| error.to_string())?.len() as f64;
    if file_size > MAX_MEMORY {
        return Err(too_large(format_args!("the file"), file_size));
    }
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let reader = reader.map_err(|error| error.to_string())?;
    let format = reader.format();
    let mut decoder = reader.into_decoder().map_err(explain)?;
    let (width, height) = decoder.dimensions();
    // Decoding does not ask for the limits of `ImageReader`, which only its own method `decode` does.
    let memory = memory(width, height, decoder.total_bytes(), format, file_size, rows);
    if memory > MAX_MEMORY {
        return Err(too_large(format_args!("decoding {width} x {height} pixels"), memory));
    }
    // Cameras store photographs as the sensor saw them and note which way is up.
    let orientation = decoder.orientation().map_err(explain)?;
    let mut photo = DynamicImage::from_decoder(decoder).map_err(explain)?;
    photo.apply_orientation(orientation);
    Ok(photo)
}

/// The most memory, in bytes, that a photograph takes on the way from its file to the network.
fn memory(width: u32, height: u32, decoded: u64, format: Option<ImageFormat>, file_size: f64, rows: u32) -> f64 {
    let (width, height, decoded) = (f64::from(width), f64::from(height), decoded as f64);
    let pixels = width * height;
    let beside = match format {
        // The decoder keeps the file, and of a progressive one a coefficient of 16 bits for each value.
        Some(ImageFormat::Jpeg) => file_size + 2.0 * decoded,
        // Turning it upright makes a copy.
        _ => decoded,
    };
    let rgb = 3.0 * pixels;
    // Resizing makes columns first, of four f32 a pixel.
    let resizing = rgb + pixels + 16.0 * f64::from(rows) * width.max(height);
    (decoded + beside.max(rgb)).max(resizing)
}

fn too_large(what: std::fmt::Arguments, memory: f64) -> String {
    let limit = MAX_MEMORY / 1e9;
    format!("{what} takes up to {:.1} GB of memory, over the limit of {limit:.0} GB: scale it down", memory / 1e9)
}

/// The decoder's sentence, with what to do where it leaves that open.
fn explain(error: ImageError) -> String {
    let unsupported = match &error {
        ImageError::Unsupported(unsupported) => Some(unsupported.kind()),
        _ => None,
    };
    match unsupported {
        Some(UnsupportedErrorKind::Format(ImageFormatHint::Exact(_))) => format!("{error}: PNG and JPEG are"),
        Some(UnsupportedErrorKind::Format(_)) => format!("{error}: PNG and JPEG are supported"),
        _ => error.to_string(),
    }
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
