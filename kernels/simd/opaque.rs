//! Fences for the compiler: without them it works out addresses long before they are used, and keeps them on the stack.

/// The same address, of which the compiler knows nothing any more.
#[inline(always)]
pub(crate) fn opaque_address<T>(p: *const T) -> *const T {
    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    {
        let mut p = p;
        // SAFETY: no instruction at all, whose operand is what it was.
        #[allow(clippy::pointers_in_nomem_asm_block, reason = "the address is not followed")]
        unsafe {
            core::arch::asm!("/* {p} */", p = inout(reg) p, options(pure, nomem, nostack, preserves_flags));
        }
        p
    }
    #[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    p
}

/// The same address and step, of which the compiler knows nothing any more: it works the addresses of a row out from them
/// where they are used, rather than once for all rows, which would fill the stack.
#[inline(always)]
pub(crate) fn opaque<T>(p: *const T, step: usize) -> (*const T, usize) {
    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    {
        let (mut p, mut step) = (p, step);
        // SAFETY: no instruction at all, whose operands are what they were.
        #[allow(clippy::pointers_in_nomem_asm_block, reason = "the address is not followed")]
        unsafe {
            core::arch::asm!(
                "/* {p} {step} */",
                p = inout(reg) p,
                step = inout(reg) step,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        (p, step)
    }
    #[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    (p, step)
}
