//! Embeds the kernel programs: `cfg(wavnet_ebpf)` and `cfg(wavnet_relay)` say that there are any of the agent and of the relay,
//! `env!("WAVNET_EBPF_OBJECT")` and `env!("WAVNET_RELAY_OBJECT")` where.

fn main() {
    wavnet_ebpf_builder::emit_for_build_script("wavnet-ebpf", "WAVNET_EBPF_OBJECT", "wavnet_ebpf");
    wavnet_ebpf_builder::emit_for_build_script("relay", "WAVNET_RELAY_OBJECT", "wavnet_relay");
}
