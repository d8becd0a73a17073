//! What lies below the kernel: a machine, a hypervisor, or an emulator.

/// The hypervisor's signature, up to its first NUL: `KVMKVMKVM`, `TCGTCGTCGTCG`. `None` if none shows itself.
///
/// Bit 31 of ECX of leaf 1 is 0 on real processors; a hypervisor names itself in leaf 0x4000_0000 (Linux:
/// arch/x86/kernel/cpu/hypervisor.c).
pub fn signature() -> Option<String> {
    const PRESENT: u32 = 1 << 31;
    if cpuid(1).ecx & PRESENT == 0 {
        return None;
    }
    let leaf = cpuid(0x4000_0000);
    let bytes: Vec<u8> = [leaf.ebx, leaf.ecx, leaf.edx].into_iter().flat_map(u32::to_le_bytes).collect();
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(String::from_utf8_lossy(text).into_owned())
}

#[allow(unused_unsafe, reason = "the intrinsic is unsafe until Rust 1.94 and safe from then on")]
fn cpuid(leaf: u32) -> std::arch::x86_64::CpuidResult {
    // SAFETY: every x86_64 processor has the instruction, and it touches nothing but the registers it returns.
    unsafe { std::arch::x86_64::__cpuid(leaf) }
}
