//! Files that are no photograph, or more of one than there is memory for.

use std::path::{Path, PathBuf};

use serde_json::json;

use network::arch::Arch;
use network::photo;

/// The pixels, or the error, of a file with these bytes for a network that reads 4x4 pixels.
fn load(name: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let path: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).unwrap();
    let text = json!({"format": "dwx-arch/1", "outputs": ["same"], "input": {"shape": [1, 3, 4, 4]},
        "layers": [{"op": "softmax", "input": "input", "output": "same"}]});
    let loaded = photo::load(&path, &Arch::parse(&text.to_string()).unwrap().input);
    if let Err(message) = &loaded {
        assert!(!message.contains('\n') && message.contains(name), "{message}");
    }
    loaded
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind, data].concat();
    let crc = body.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB88320 } else { crc >> 1 })
    });
    [&(data.len() as u32).to_be_bytes()[..], &body, &(!crc).to_be_bytes()].concat()
}

/// A PNG of RGB that declares so many pixels, and has none.
fn png(width: u32, height: u32) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n", &chunk(b"IHDR", &header)[..], &chunk(b"IDAT", &[0x78, 0x9C])].concat()
}

/// A JPEG of 16x16 pixels.
fn jpeg() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let photo = image::RgbImage::from_fn(16, 16, |x, y| image::Rgb([16 * x as u8, 16 * y as u8, 128]));
    photo.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

/// The same JPEG, but its header declares so many pixels.
fn declaring(mut jpeg: Vec<u8>, width: u16, height: u16) -> Vec<u8> {
    // Start of frame: marker, length of 2 bytes, precision of 1, height, width.
    let frame = jpeg.windows(2).position(|bytes| bytes == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    jpeg[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    jpeg
}

#[test]
fn a_photograph_beyond_the_memory_is_refused_at_once() {
    let refused = |name: &str, bytes: &[u8], says: [&str; 2]| {
        let message = load(name, bytes).unwrap_err();
        let says = says.iter().chain(&["over the limit of 1 GB"]);
        says.for_each(|part| assert!(message.contains(part), "`{part}` is missing in: {message}"));
    };
    // Two copies of three bytes a pixel.
    refused("bomb.png", &png(60_000, 60_000), ["60000 x 60000", "21.6 GB"]);
    // A coefficient of two bytes for each of three values a pixel besides.
    refused("bomb.jpg", &declaring(jpeg(), 60_000, 60_000), ["60000 x 60000", "32.4 GB"]);
    // Few pixels, but four rows of them in f32.
    refused("wide.png", &png(20_000_000, 1), ["20000000 x 1", "1.4 GB"]);
    // As many pixels as the largest cameras have: no pixel of this one follows, but memory is no matter.
    let message = load("camera.png", &png(12_000, 9_000)).unwrap_err();
    assert!(!message.contains("limit"), "{message}");
}

#[test]
fn formats_that_are_read_are_named() {
    let message = load("photo.webp", b"RIFF\x24\0\0\0WEBPVP8 ").unwrap_err();
    assert!(message.ends_with("WebP is not supported: PNG and JPEG are"), "{message}");
    let message = load("no extension", b"not a photograph").unwrap_err();
    assert!(message.ends_with(": PNG and JPEG are supported"), "{message}");
}

/// As `--help` says: a JPEG is decoded as far as it goes.
#[test]
fn a_cut_jpeg_is_decoded_as_far_as_it_goes() {
    let jpeg = jpeg();
    let whole = load("whole.jpg", &jpeg).unwrap();
    let cut = load("cut.jpg", &jpeg[..jpeg.len() - 20]).unwrap();
    assert!(cut.len() == whole.len() && cut != whole);
}
