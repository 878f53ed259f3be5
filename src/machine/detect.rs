//! Which description fits this CPU: by family and model.

use super::{Machine, generic};

/// The description of this CPU.
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(super) fn described() -> &'static Machine {
    use super::{emerald_rapids, zen3, zen4, zen5};

    let cpu = raw_cpuid::CpuId::new();
    let (Some(vendor), Some(features)) = (cpu.get_vendor_info(), cpu.get_feature_info()) else {
        return &generic::GENERIC;
    };
    let (family, model) = (features.family_id(), features.model_id());
    match (vendor.as_str(), family, model) {
        // Zen 4: servers, desktops and laptops. Zen 3 has the family's other models.
        ("AuthenticAMD", 0x19, 0x10..=0x1f | 0x60..=0xaf) => &zen4::ZEN_4,
        ("AuthenticAMD", 0x19, _) => &zen3::ZEN_3,
        // Zen 5 of laptops computes 512 bits in two halves, as Zen 4 does.
        ("AuthenticAMD", 0x1a, 0x20..=0x2f | 0x60..=0x6f) => &zen4::ZEN_4,
        ("AuthenticAMD", 0x1a.., _) => &zen5::ZEN_5,
        // Servers, whose cores share a cache over a mesh: Sky Lake, Ice Lake, Sapphire, Emerald and Granite Rapids.
        ("GenuineIntel", 6, 0x55 | 0x6a | 0x6c | 0x8f | 0xcf | 0xad | 0xae) => &emerald_rapids::EMERALD_RAPIDS,
        _ => &generic::GENERIC,
    }
}

/// The bytes of the second-level cache.
#[cfg(all(feature = "std", target_arch = "x86_64", not(miri)))]
pub(super) fn own_cache() -> Option<usize> {
    let cpu = raw_cpuid::CpuId::new();
    let second = cpu.get_cache_parameters()?.find(|cache| cache.level() == 2)?;
    let lines = second.sets().checked_mul(second.associativity())?.checked_mul(second.physical_line_partitions())?;
    lines.checked_mul(second.coherency_line_size()).filter(|&bytes| bytes > 0)
}

/// No other kind of CPU than x86-64 is told apart.
#[cfg(any(miri, not(target_arch = "x86_64")))]
pub(super) fn described() -> &'static Machine {
    &generic::GENERIC
}

#[cfg(all(feature = "std", any(miri, not(target_arch = "x86_64"))))]
pub(super) fn own_cache() -> Option<usize> {
    None
}
