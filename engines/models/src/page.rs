//! An image that is no noise.

use crate::Random;

/// The segments of the digits, as displays of seven segments have them: across at the top, then clockwise, the middle last.
const DIGITS: [u8; 10] = [0x3f, 0x06, 0x5b, 0x4f, 0x66, 0x6d, 0x7d, 0x07, 0x7f, 0x6f];

/// Photographs of a page, one plane for each channel: lines of dark digits on white, between −0.9 and 0.9, with the grain of a camera. They
/// are the same on every machine.
///
/// Without grain all pixels of the background round alike, and a mean over them, as in squeeze-and-excite, does not even that out.
pub fn page(channels: usize, height: usize, width: usize) -> Vec<f32> {
    let mut page = vec![1.0; height * width];
    let mut random = Random(6);
    let tall = (height * 3 / 5).clamp(1, 28);
    let (wide, thick) = (tall.div_ceil(2), tall.div_ceil(9));
    let mut fill = |top: usize, left: usize, rows: usize, columns: usize| {
        for row in page.chunks_exact_mut(width).skip(top).take(rows) {
            row[left..left + columns].fill(-1.0);
        }
    };
    let mut top = (height - tall).min(tall) / 2;
    while top + tall <= height {
        let mut left = wide;
        while left + 2 * wide <= width {
            // A space between words.
            if random.bits() % 6 > 0 {
                let digit = random.of(&DIGITS);
                let (half, right) = (tall / 2, left + wide - thick);
                let segments = [
                    (top, left, thick, wide),
                    (top, right, half, thick),
                    (top + half, right, tall - half, thick),
                    (top + tall - thick, left, thick, wide),
                    (top + half, left, tall - half, thick),
                    (top, left, half, thick),
                    (top + half, left, thick, wide),
                ];
                for (k, (top, left, rows, columns)) in segments.into_iter().enumerate() {
                    if digit >> k & 1 == 1 {
                        fill(top, left, rows, columns);
                    }
                }
            }
            left += wide + 2 * thick;
        }
        top += 2 * tall;
    }
    let mut grained = Vec::with_capacity(channels * page.len());
    for _ in 0..channels {
        grained.extend(page.iter().map(|value| 0.8 * value + 0.1 * random.float()));
    }
    grained
}
