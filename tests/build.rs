//! Embeds the lab's kernel programs: `cfg(wavnet_lab)` says that there are any, `env!("WAVNET_LAB_OBJECT")` where.

fn main() {
    wavnet_ebpf_builder::emit_for_build_script("lab", "WAVNET_LAB_OBJECT", "wavnet_lab");
}
