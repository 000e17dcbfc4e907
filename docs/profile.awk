# Sums up a profile by kind of work, for docs/benchmarks.md:
#
#   perf report -i perf.data --no-children --sort cpu,sym -g none 2>/dev/null | awk -v cpu=0 -f docs/profile.awk
#
# `cpu`: of this CPU alone; without, of all. A symbol is of the first kind that its name fits.
BEGIN {
    kind(1, "our programs", "bpf_prog_[0-9a-f]*_(underlay_|port_|tap_guard|[a-z]*_3c_wavnet)")
    kind(2, "idle", "halt|idle|do_nothing")
    kind(3, "waking the other CPU, scheduler", "spin_unlock_irqrestore|finish_task_switch|schedule|try_to_wake|ttwu|queue_task|pick_next|pick_task|update_(curr|load|rq|se)|_sched|sched_|futex|__pv_queued")
    kind(4, "copies from and to users", "copy_(to|from)_(iter|user)|copy_user|check_object|rep_movs|skb_(datagram|copy_datagram)|virt_addr_valid")
    kind(5, "GRO", "gro_|_gro|gro$")
    kind(6, "segmentation, checksums", "segment|gso|csum|checksum|ip_send_check")
    kind(7, "TCP, IP", " (__|_)?(tcp|ip|inet|ipv4|fib|neigh|sock|sk|udp|nf|br_nf|iptunnel|vxlan|bbr)[0-9]*_")
    kind(8, "links, XDP, redirects", "veth|xdp|dev_map|bq_|ptr_ring|lab_|xmit|dev_queue|netdev_|validate|netif_|qdisc|redirect|forward|br_|tun_|eth_type")
    kind(9, "memory: copied, allocated", "memcpy|memset|kmem_cache|kmalloc|slab|kfree|page|__free|alloc|netmem|memcg")
    kind(10, "socket buffers: made, cloned, copied, freed", "skb")
    kinds = 11
    name[kinds] = "the rest"
}
function kind(i, words, pattern) { name[i] = words; fits[i] = pattern }
$1 ~ /%$/ && (cpu == "" || $2 + 0 == cpu) {
    share = $1 + 0
    symbol = tolower(" " $4)
    for (i = 1; i < kinds && symbol !~ fits[i]; i++);
    sum[i] += share
    all += share
}
END {
    if (!all) { print "no samples" > "/dev/stderr"; exit 1 }
    for (i = 1; i <= kinds; i++) printf "%5.1f %%  %s\n", 100 * sum[i] / all, name[i]
}
