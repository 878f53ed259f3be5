//! Elements of 16 bits become `f32` and `f32` becomes them with the bits of the crate `half`, on every instruction set, whatever the
//! length, and no byte outside of the slices is touched.

use std::fmt::Debug;

use depthwise::{Axis, Element, ElementType, Isa, Layout, Shape, Strides, TensorView, TensorViewMut, bf16, f16};
use depthwise_kernels::Converter;
use depthwise_testkit::{emulation, isas};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What the crate `half` makes of it.
trait Reference: Element {
    fn of_bits(bits: u16) -> Self;
    fn bits(self) -> u16;
    fn widened(self) -> f32;
    fn narrowed(x: f32) -> Self;
}

macro_rules! reference {
    ($($element:ident)*) => {
        $(impl Reference for $element {
            fn of_bits(bits: u16) -> Self {
                $element::from_bits(bits)
            }
            fn bits(self) -> u16 {
                self.to_bits()
            }
            fn widened(self) -> f32 {
                $element::to_f32(self)
            }
            fn narrowed(x: f32) -> Self {
                $element::from_f32(x)
            }
        })*
    };
}

reference!(f16 bf16);

fn every_element<E: Reference>() -> Vec<E> {
    (0..=u16::MAX).map(E::of_bits).collect()
}

/// Fails at the first number whose bits are not the ones wanted.
fn expect<X: Copy + Debug, B: Copy + PartialEq + std::fmt::LowerHex>(
    what: &str,
    from: &[X],
    got: impl Iterator<Item = B>,
    want: impl Iterator<Item = B>,
) {
    for (i, (got, want)) in got.zip(want).enumerate() {
        assert!(got == want, "{what}: element {i} of {}, {:?}: want {want:#x}, got {got:#x}", from.len(), from[i]);
    }
}

fn converters<E: Element>() -> impl Iterator<Item = (Isa, Converter<E>)> {
    isas().into_iter().flat_map(|isa| {
        let all: Vec<_> = Converter::each(isa).collect();
        assert!(!all.is_empty(), "{isa} converts no {}", E::TYPE);
        all.into_iter().map(move |converter| (isa, converter))
    })
}

fn widens<E: Reference>() {
    let all = every_element::<E>();
    // `half` makes a signalling NaN of bf16 quiet; here it is copied.
    let want = |x: &E| match E::TYPE {
        ElementType::Bf16 if x.widened().is_nan() => u32::from(x.bits()) << 16,
        _ => x.widened().to_bits(),
    };
    expect("Element", &all, all.iter().map(|x| Element::to_f32(*x).to_bits()), all.iter().map(want));
    for (isa, converter) in converters::<E>() {
        let mut wide = vec![0.0; all.len()];
        converter.widen(&all, &mut wide);
        expect(&format!("{isa}, {}", E::TYPE), &all, wide.iter().map(|x| x.to_bits()), all.iter().map(want));
    }
    println!("{}: all {} values widened on {:?}", E::TYPE, all.len(), isas());
}

#[test]
fn every_element_is_widened() {
    widens::<f16>();
    widens::<bf16>();
}

/// Numbers at and beside everything where rounding changes: each element, halfway to the next, NaNs with each bit of a payload, and
/// whatever random bits are.
fn numbers<E: Reference>() -> Vec<f32> {
    let mut numbers = vec![];
    let step = emulation::step(1);
    for bits in (0..0x8000).step_by(step).chain(0x7bf0..0x7c10).chain(0x7f70..0x7f90) {
        let here = E::of_bits(bits).widened().to_bits();
        let next = E::of_bits(bits + 1).widened().to_bits();
        let halfway = here.midpoint(next);
        // Halfway between denormals of f16 is halfway between their numbers, too: their neighbours have at most one exponent more.
        let exact = ((f64::from(f32::from_bits(here)) + f64::from(f32::from_bits(next))) / 2.0) as f32;
        numbers.extend([here, halfway, exact.to_bits()].into_iter().flat_map(|x| [x.saturating_sub(1), x, x + 1]));
    }
    for bit in 0..23 {
        numbers.extend([0x7f80_0000, 0x7f80_0001, 0x7fc0_0000].map(|x: u32| x | 1 << bit));
    }
    // The last finite number of f32, infinity, denormals, and what becomes a denormal of f16.
    numbers.extend([0x7f7f_ffff, 0x7f80_0000, 0, 1, 0x007f_ffff, 0x0080_0000, 0x3300_0000, 0x3300_0001, 0x32ff_ffff]);
    let mut rng = StdRng::seed_from_u64(1);
    numbers.extend((0..(1 << 20) / step).map(|_| rng.random::<u32>()));
    // Those that do not overflow f16, which most random ones do.
    numbers.extend((0..(1 << 20) / step).map(|_| rng.random_range(0x3200_0000..0x4790_0000)));
    let both_signs = numbers.into_iter().flat_map(|x| [x, x ^ 0x8000_0000]);
    both_signs.map(f32::from_bits).collect()
}

fn narrows<E: Reference>() {
    let numbers = numbers::<E>();
    let want: Vec<E> = numbers.iter().map(|&x| E::narrowed(x)).collect();
    let want_bits = || want.iter().map(|x| x.bits());
    expect("Element", &numbers, numbers.iter().map(|&x| <E as Element>::from_f32(x).bits()), want_bits());
    for (isa, converter) in converters::<E>() {
        let mut narrow = vec![E::ZERO; numbers.len()];
        converter.narrow(&numbers, &mut narrow);
        expect(&format!("{isa}, {}", E::TYPE), &numbers, narrow.iter().map(|x| x.bits()), want_bits());
        let mut rounded = numbers.clone();
        converter.round(&mut rounded);
        let want = want.iter().map(|x| x.widened().to_bits());
        expect(&format!("{isa}, {} in place", E::TYPE), &numbers, rounded.iter().map(|x| x.to_bits()), want);
    }
    println!("{}: {} numbers narrowed on {:?}", E::TYPE, numbers.len(), isas());
}

#[test]
fn numbers_are_narrowed_to_the_nearest() {
    narrows::<f16>();
    narrows::<bf16>();
}

/// Memory for a slice that ends or starts at an inaccessible page.
#[cfg(all(unix, not(miri)))]
mod pages {
    use std::ptr::null_mut;

    pub struct Pages {
        start: *mut u8,
        len: usize,
    }

    impl Pages {
        /// Between two inaccessible pages.
        pub fn new() -> Pages {
            // SAFETY: it takes no pointer.
            let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize };
            // SAFETY: the mapping is new, and what is opened lies within it.
            let start = unsafe {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANON;
                let map = libc::mmap(null_mut(), 3 * page, libc::PROT_NONE, flags, -1, 0);
                assert!(map != libc::MAP_FAILED, "no memory");
                let start = map.wrapping_byte_add(page);
                assert_eq!(libc::mprotect(start, page, libc::PROT_READ | libc::PROT_WRITE), 0);
                start.cast()
            };
            Pages { start, len: page }
        }

        /// A slice of so many elements at the end of the page, or at its start.
        pub fn slice<T: Copy>(&mut self, len: usize, at_end: bool) -> &mut [T] {
            let bytes = len * size_of::<T>();
            assert!(bytes <= self.len);
            let offset = if at_end { self.len - bytes } else { 0 };
            // SAFETY: the bytes lie in the page, whose end and start are as aligned as any element; they were zero at first, and
            // any bits are an element of those that this file takes. The page is borrowed alone.
            unsafe { std::slice::from_raw_parts_mut(self.start.wrapping_add(offset).cast(), len) }
        }
    }
}

#[cfg(not(all(unix, not(miri))))]
mod pages {
    /// Plain memory, where there are no pages to guard it.
    pub struct Pages(Vec<u64>);

    impl Pages {
        pub fn new() -> Pages {
            Pages(vec![0; 512])
        }

        pub fn slice<T: Copy>(&mut self, len: usize, _at_end: bool) -> &mut [T] {
            assert!(len * size_of::<T>() <= 8 * self.0.len() && align_of::<T>() <= 8);
            // SAFETY: the memory is long and aligned enough, any bits are an element, and it is borrowed alone.
            unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), len) }
        }
    }
}

fn every_length<E: Reference>() {
    let mut pages = [(); 2].map(|()| pages::Pages::new());
    let [first, second] = &mut pages;
    for (isa, converter) in converters::<E>() {
        for (len, at_end) in (0..=70).flat_map(|len| [(len, false), (len, true)]) {
            let what = format!("{isa}, {} of {}", len, E::TYPE);
            // A number that rounds, and differs at each place.
            let number = |i: usize| 1.0 + (i as f32) * 1.013;
            let want: Vec<E> = (0..len).map(|i| E::narrowed(number(i))).collect();
            let (wide, narrow) = (first.slice::<f32>(len, at_end), second.slice::<E>(len, at_end));
            wide.iter_mut().enumerate().for_each(|(i, x)| *x = number(i));
            narrow.fill(E::ZERO);
            converter.narrow(wide, narrow);
            expect(&what, wide, narrow.iter().map(|x| x.bits()), want.iter().map(|x| x.bits()));
            let want = || want.iter().map(|x| x.widened().to_bits());
            converter.round(wide);
            expect(&what, narrow, wide.iter().map(|x| x.to_bits()), want());
            wide.fill(0.0);
            converter.widen(narrow, wide);
            expect(&what, narrow, wide.iter().map(|x| x.to_bits()), want());
        }
    }
}

#[test]
fn lengths_between_guard_pages() {
    every_length::<f16>();
    every_length::<bf16>();
}

/// Rows of views with gaps, rows that are one run, and tensors whose axes lie in another order.
fn views_of<E: Reference>() {
    let mut checked = 0;
    for (isa, converter) in converters::<E>() {
        for layout in [Layout::Nchw, Layout::Nhwc] {
            for shape in
                [Shape::new(2, 3, 4, 5), Shape::new(1, 19, 3, 2), Shape::new(2, 1, 1, 33), Shape::new(1, 0, 2, 2)]
            {
                let plain = layout.strides(shape).expect("a small shape");
                let (along, apart) = match layout {
                    Layout::Nchw => (Axis::W, Axis::H),
                    Layout::Nhwc => (Axis::C, Axis::W),
                };
                // Gaps after each run, and after each image.
                let mut gaps = plain;
                for axis in Axis::ALL {
                    gaps[axis] = if axis == along { 1 } else { plain[axis] / shape[along].max(1) * (shape[along] + 3) };
                }
                gaps.n += 7;
                // The images are innermost but for the runs.
                let mut permuted = plain;
                permuted.n = shape[along].max(1);
                for axis in Axis::ALL.into_iter().filter(|&axis| axis != along && axis != Axis::N) {
                    permuted[axis] = plain[axis] * shape.n;
                }
                assert!(plain[apart] == shape[along] || shape.is_empty());
                for (from, to) in [(plain, plain), (plain, gaps), (gaps, plain), (permuted, gaps), (gaps, permuted)] {
                    both_ways(
                        converter,
                        layout,
                        shape,
                        from,
                        to,
                        &format!("{isa}, {layout}, {shape:?}, {from:?} to {to:?}"),
                    );
                    checked += 1;
                }
            }
        }
    }
    println!("{}: {checked} pairs of views on {:?}", E::TYPE, isas());
}

fn both_ways<E: Reference>(
    converter: Converter<E>,
    layout: Layout,
    shape: Shape,
    from: Strides,
    to: Strides,
    what: &str,
) {
    const GAP: f32 = -7.0;
    let len = |strides: Strides| Axis::ALL.iter().map(|&axis| shape[axis].max(1) * strides[axis]).sum::<usize>() + 1;
    let each = |mut f: Box<dyn FnMut(usize, usize, usize) + '_>| {
        let mut i = 0;
        for n in 0..shape.n {
            for c in 0..shape.c {
                for h in 0..shape.h {
                    for w in 0..shape.w {
                        f(i, from.offset(n, c, h, w), to.offset(n, c, h, w));
                        i += 1;
                    }
                }
            }
        }
    };
    let number = |i: usize| 1.0 + i as f32 * 1.013;
    let (mut narrow, mut wide) = (vec![E::narrowed(GAP); len(from)], vec![GAP; len(to)]);
    let (mut want_wide, mut numbers, mut want_narrow) =
        (wide.clone(), vec![GAP; len(to)], vec![E::narrowed(GAP); len(from)]);
    each(Box::new(|i, from, to| {
        narrow[from] = E::narrowed(number(i));
        want_wide[to] = narrow[from].widened();
        numbers[to] = number(i);
        want_narrow[from] = narrow[from];
    }));
    let view = TensorView::strided(&narrow, shape, from).expect("a view");
    converter.widen_view(layout, view, TensorViewMut::strided(&mut wide, shape, to).expect("a view"));
    assert_eq!(wide, want_wide, "{what}");
    narrow.fill(E::narrowed(GAP));
    let view = TensorView::strided(&numbers, shape, to).expect("a view");
    converter.narrow_view(layout, view, TensorViewMut::strided(&mut narrow, shape, from).expect("a view"));
    assert_eq!(narrow, want_narrow, "{what}, back");
}

#[test]
fn views_with_gaps() {
    views_of::<f16>();
    views_of::<bf16>();
}

#[test]
fn an_f32_is_copied() {
    for (isa, converter) in converters::<f32>() {
        let numbers = [1.5, -0.0, f32::from_bits(0x7f80_0001), 1e-40];
        let [mut wide, mut narrow, mut rounded] = [[0.0; 4], [0.0; 4], numbers];
        converter.widen(&numbers, &mut wide);
        converter.narrow(&numbers, &mut narrow);
        converter.round(&mut rounded);
        for copy in [wide, narrow, rounded] {
            assert_eq!(copy.map(f32::to_bits), numbers.map(f32::to_bits), "{isa}");
        }
    }
}

#[test]
#[should_panic = "3 elements are to be converted to 4: the slices must have the same length"]
fn lengths_differ() {
    Converter::<f16>::new(Isa::Portable).expect("any CPU has it").widen(&[f16::ZERO; 3], &mut [0.0; 4]);
}

#[test]
#[should_panic = "what is filled has gaps along the channels"]
fn gaps_along_vectors() {
    let (shape, layout) = (Shape::new(1, 2, 1, 1), Layout::Nhwc);
    let (from, mut to) = ([0.0; 2], [0.0; 4]);
    let from = TensorView::new(&from, shape, layout).expect("a view");
    let to = TensorViewMut::strided(&mut to, shape, Strides { n: 4, c: 2, h: 4, w: 4 }).expect("a view");
    Converter::<f32>::new(Isa::Portable).expect("any CPU has it").widen_view(layout, from, to);
}
