//! Writes TFLite files: FlatBuffers, of tables that are given field by field.

/// A field of a table, by its place in the schema.
#[derive(Clone, Debug)]
pub enum Field {
    Absent,
    Byte(u8),
    Number(i32),
    Real(f32),
    Text(String),
    Bytes(Vec<u8>),
    Numbers(Vec<i32>),
    Longs(Vec<i64>),
    Reals(Vec<f32>),
    Table(Vec<Field>),
    Tables(Vec<Vec<Field>>),
}
use Field::*;

/// The file of that root.
pub fn file(root: &[Field]) -> Vec<u8> {
    let mut out = b"\0\0\0\0TFL3".to_vec();
    let start = table(&mut out, root);
    link(&mut out, 0, start);
    out
}

/// Appends a table with all that belongs to it, and says where it begins.
fn table(out: &mut Vec<u8>, fields: &[Field]) -> usize {
    let head = 4 + 2 * fields.len();
    align(out, head, 4);
    let index = out.len();
    let present = fields.iter().filter(|field| !matches!(field, Absent)).count();
    out.extend((head as u16).to_le_bytes());
    out.extend((4 + 4 * present as u16).to_le_bytes());
    // Four bytes each, behind the distance to this index.
    let mut offset = 4u16;
    for field in fields {
        let is_absent = matches!(field, Absent);
        out.extend(if is_absent { 0 } else { offset }.to_le_bytes());
        offset += if is_absent { 0 } else { 4 };
    }
    let start = out.len();
    out.extend(((start - index) as i32).to_le_bytes());
    let mut slots = Vec::with_capacity(present);
    for field in fields.iter().filter(|field| !matches!(field, Absent)) {
        slots.push((out.len(), field));
        out.extend(match *field {
            Byte(value) => [value, 0, 0, 0],
            Number(value) => value.to_le_bytes(),
            Real(value) => value.to_le_bytes(),
            _ => [0; 4],
        });
    }
    for (slot, field) in slots {
        let place = match field {
            Absent | Byte(_) | Number(_) | Real(_) => continue,
            Text(text) => vector(out, text.len(), 1, text.bytes().chain([0])),
            // As TFLite's loader wants its weights.
            Bytes(bytes) => vector(out, bytes.len(), 16, bytes.iter().copied()),
            Numbers(values) => vector(out, values.len(), 4, values.iter().flat_map(|value| value.to_le_bytes())),
            Longs(values) => vector(out, values.len(), 8, values.iter().flat_map(|value| value.to_le_bytes())),
            Reals(values) => vector(out, values.len(), 4, values.iter().flat_map(|value| value.to_le_bytes())),
            Table(fields) => table(out, fields),
            Tables(tables) => {
                let place = vector(out, tables.len(), 4, std::iter::repeat_n(0, 4 * tables.len()));
                for (number, fields) in tables.iter().enumerate() {
                    let start = table(out, fields);
                    link(out, place + 4 + 4 * number, start);
                }
                place
            }
        };
        link(out, slot, place);
    }
    start
}

/// Appends a length and elements, whose first lies at a multiple of `alignment`, and says where the length is.
fn vector(out: &mut Vec<u8>, len: usize, alignment: usize, bytes: impl Iterator<Item = u8>) -> usize {
    align(out, 4, alignment.max(4));
    let place = out.len();
    out.extend((len as u32).to_le_bytes());
    out.extend(bytes);
    place
}

/// Zeros, so that what comes behind `bytes` more of them is aligned.
fn align(out: &mut Vec<u8>, bytes: usize, alignment: usize) {
    let end = (out.len() + bytes).next_multiple_of(alignment);
    out.resize(end - bytes, 0);
}

/// Writes the distance from `slot` to `place` there.
fn link(out: &mut [u8], slot: usize, place: usize) {
    out[slot..slot + 4].copy_from_slice(&((place - slot) as u32).to_le_bytes());
}
