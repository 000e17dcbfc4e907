//! Embeds the kernel programs: `cfg(wavnet_ebpf)` says that there are any, `env!("WAVNET_EBPF_OBJECT")` where.

fn main() {
    wavnet_ebpf_builder::emit_for_build_script("wavnet-ebpf", "WAVNET_EBPF_OBJECT", "wavnet_ebpf");
}
