use go_metro::capture::ebpf::Classifier;
use go_metro_common::names;
#[test]
fn loads() {
    let mut c = Classifier::load(1 << 20).map_err(|e| e.to_string()).unwrap();
    for n in [names::INGRESS_ETHERNET, names::EGRESS_ETHERNET, names::INGRESS_IP, names::EGRESS_IP] {
        let i = c.program(n).unwrap().info().unwrap();
        println!(
            "{n} verified {:?} xlated {:?} jited {}",
            i.verified_instruction_count(),
            i.size_translated(),
            i.size_jitted()
        );
    }
}
