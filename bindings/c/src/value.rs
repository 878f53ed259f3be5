//! Enumerations as C passes them: any number. To Rust, an `enum` with a number of no variant would be undefined behaviour.
//!
//! The header is made without this file, so that these names mean the enumerations of `types.rs` there.

#![allow(non_camel_case_types, reason = "the names that C has for them")]

macro_rules! numbers {
    ($($name:ident),*) => {$(
        pub(crate) type $name = i32;
    )*};
}
numbers!(
    dw_operation,
    dw_element,
    dw_layout,
    dw_weight_order,
    dw_isa,
    dw_fusion,
    dw_padding_kind,
    dw_activation_kind,
    dw_parallelism_kind,
    dw_rounding
);
