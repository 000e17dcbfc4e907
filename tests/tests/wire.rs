//! What leaves a hypervisor is VXLAN as RFC 7348 has it, by an independent dissector.

use std::{collections::BTreeSet, time::Duration};

use wavnet_tests::lab::{
    self, Need,
    capture::Capture,
    host::Host,
    overlay::{Both, Shape, ip},
    ping::{self, Ping},
    stream,
};

const NEEDS: &[Need] = &[Need::Wavnet, Need::Tool("tcpdump"), Need::Tool("tshark")];
const SOON: Duration = Duration::from_secs(15);

#[test]
fn outer_headers_are_correct_vxlan() {
    lab::run("outer_headers_are_correct_vxlan", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        // At the sender: XDP at the receiver takes frames before they can be captured.
        let capture = Capture::start(&net.hosts[0].ns, Host::NIC, "udp dst port 4789 and src 172.31.0.1")?;
        for size in [0, 1, 17, 56, 1000, 1472] {
            ping::once(&net.a.ns, ip(2), size, SOON)?;
        }
        let pings = Ping::start(&net.a.ns, ip(2), Duration::from_millis(2))?;
        for _ in 0..12 {
            stream::bulk(&net.b.ns, ip(2), &net.a.ns, 200_000)?;
        }
        let loss = pings.stop();
        assert_eq!(loss.lost(), 0, "{loss:?}");
        let pcap = capture.stop()?;

        let fields = [
            "ip.version",
            "ip.hdr_len",
            "ip.flags.df",
            "ip.ttl",
            "ip.checksum.status",
            "ip.src",
            "ip.dst",
            "udp.dstport",
            "udp.checksum",
            "vxlan.flags",
            "vxlan.reserved_8",
            "vxlan.vni",
            "udp.srcport",
            "frame.len",
            "ip.len",
            "udp.length",
        ];
        let packets = pcap.fields("udp", &fields)?;
        assert!(packets.len() > 50, "only {} packets captured", packets.len());
        let want = ["4", "20", "1", "64", "1", "172.31.0.1", "172.31.0.2", "4789", "0x0000", "0x0800", "0x00", "100"];
        for packet in &packets {
            for ((field, want), got) in fields.iter().zip(want).zip(packet) {
                let same = got == want || reserved_zero(field, got) || (*field == "ip.flags.df" && got == "True");
                assert!(same, "{field} is {got}, not {want}, in {packet:?}");
            }
            let number = |i: usize| packet[i].parse::<usize>().unwrap_or_default();
            assert!((49_152..=65_535).contains(&number(12)), "source port of {packet:?}");
            assert!(number(13) <= 1600 + 14, "longer than the underlay's MTU: {packet:?}");
            assert_eq!(number(14), number(13) - 14, "IPv4's length does not fit the frame: {packet:?}");
            assert_eq!(number(15), number(14) - 20, "UDP's length does not fit IPv4's: {packet:?}");
        }
        let ports: BTreeSet<&String> = packets.iter().map(|p| &p[12]).collect();
        assert!(ports.len() >= 6, "13 flows share the source ports {ports:?}: no entropy for ECMP");
        let icmp: BTreeSet<String> = pcap.fields("icmp", &["udp.srcport"])?.into_iter().flatten().collect();
        assert_eq!(icmp.len(), 1, "one flow has several source ports: {icmp:?}");
        let broken =
            pcap.fields("_ws.malformed || icmp.checksum.status == 0 || tcp.checksum.status == 0", &["frame.number"])?;
        assert_eq!(broken, Vec::<Vec<String>>::new(), "tshark finds these packets malformed");
        Ok(())
    });
}

/// Dissectors write a zero in as many digits as they like.
fn reserved_zero(field: &str, got: &str) -> bool {
    field.contains("reserved") && got.trim_start_matches("0x").bytes().all(|b| b == b'0')
}
