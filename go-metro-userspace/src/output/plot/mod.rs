//! Plots of a capture: each pair's RTT over time, its distribution beside it on the same axis, its outliers, and when
//! something was retransmitted and why, as one file that needs no other.
//!
//! [`Plot`] collects samples, [`Plot::svg`] and [`Plot::html`] draw them. Where there are more samples than a screen
//! has room for, each strip of time shows its smallest, its largest and one of the middle, so that no outlier is lost.

mod draw;
mod scale;
#[allow(dead_code, unreachable_pub, reason = "testing/support compiles it too, and uses all of it")]
mod svg;

use std::collections::HashMap;

use go_metro_rtt::{Cause, PairKey, Rtt, Sample, Stats};

/// Pairs drawn unless another number is asked for: the busiest. The file says how many were left out.
pub const PAIRS: usize = 12;
/// Pairs of which what was retransmitted is kept: a scan has many that never have a sample.
const MOST_PAIRS: usize = 1 << 14;
/// Samples of a pair that are kept for drawing; beyond them every second one is, then every fourth.
const MOST_POINTS: usize = 200_000;

/// What is plotted.
#[derive(Debug)]
pub struct Plot {
    pairs: HashMap<PairKey, Points>,
    /// How many are drawn.
    most: usize,
}

/// What is not drawn.
#[derive(Clone, Copy, Debug, Default)]
struct LeftOut {
    /// Pairs with fewer samples.
    pairs: usize,
    /// Samples of data whose pairs are not kept apart.
    other: u64,
}

impl Default for Plot {
    fn default() -> Self {
        Self::new(PAIRS)
    }
}

/// One pair's samples of data.
#[derive(Debug, Default)]
struct Points {
    /// Time in nanoseconds since the epoch, and RTT.
    points: Vec<(u64, Rtt)>,
    seen: u64,
    /// Every so manieth is kept.
    step: u64,
    again: Again,
}

/// What was retransmitted of a pair.
#[derive(Debug, Default)]
struct Again {
    /// Time in nanoseconds since the epoch, why, and how many segments at once.
    marks: Vec<(u64, Cause, u32)>,
    seen: u64,
    /// Every so manieth is kept.
    step: u64,
    /// Segments by cause, all of them.
    segments: [u64; Cause::COUNT],
}

/// Drops every second.
fn halve<T>(all: &mut Vec<T>) {
    let mut keep = false;
    all.retain(|_| {
        keep = !keep;
        keep
    });
}

/// What a pair's panel is called, and its statistics.
#[derive(Debug)]
pub struct Panel<'a> {
    /// Local address.
    pub src: &'a str,
    /// The other end.
    pub dst: &'a str,
    /// Interface of the capture.
    pub iface: &'a str,
    /// Its samples of data.
    pub stats: &'a Stats,
}

impl Plot {
    /// Draws at most so many pairs.
    pub fn new(most: usize) -> Self {
        Self { pairs: HashMap::new(), most }
    }

    /// Adds a sample.
    pub fn add(&mut self, sample: &Sample) {
        let points = self
            .pairs
            .entry(PairKey::of(&sample.flow, sample.place, sample.label))
            .or_insert_with(|| Points { step: 1, ..Points::default() });
        points.seen += 1;
        if !points.seen.is_multiple_of(points.step) {
            return;
        }
        if points.points.len() == MOST_POINTS {
            halve(&mut points.points);
            points.step *= 2;
        }
        points.points.push((sample.acked_at.0, sample.rtt));
    }

    /// Adds so many segments of a pair that were retransmitted at `at`, in nanoseconds since the epoch.
    pub fn add_resent(&mut self, pair: PairKey, at: u64, cause: Cause, segments: u32) {
        if self.pairs.len() >= MOST_PAIRS && !self.pairs.contains_key(&pair) {
            return;
        }
        let again = &mut self.pairs.entry(pair).or_insert_with(|| Points { step: 1, ..Points::default() }).again;
        again.segments[cause as usize] += u64::from(segments);
        again.seen += 1;
        if !again.seen.is_multiple_of(again.step.max(1)) {
            return;
        }
        if again.marks.len() == MOST_POINTS {
            halve(&mut again.marks);
            again.step = 2 * again.step.max(1);
        }
        again.marks.push((at, cause, segments));
    }

    /// The busiest pairs, with what `panel` knows of each, and how many others it knows.
    fn busiest<'a>(&'a self, panel: &impl Fn(&PairKey) -> Option<Panel<'a>>) -> (Vec<(Panel<'a>, &'a Points)>, usize) {
        let mut all: Vec<(PairKey, Panel<'a>, &Points)> =
            self.pairs.iter().filter_map(|(key, points)| Some((*key, panel(key)?, points))).collect();
        all.sort_by_key(|(key, panel, _)| (std::cmp::Reverse(panel.stats.count()), *key));
        let left_out = all.len().saturating_sub(self.most);
        all.truncate(self.most);
        (all.into_iter().map(|(_, panel, points)| (panel, points)).collect(), left_out)
    }

    /// A drawing. `other` samples are of pairs that `panel` does not know, since there were too many.
    pub fn svg<'a>(&'a self, title: &str, other: u64, panel: &impl Fn(&PairKey) -> Option<Panel<'a>>) -> String {
        let (panels, pairs) = self.busiest(panel);
        draw::svg(title, &panels, LeftOut { pairs, other })
    }

    /// A page with the drawing and the numbers.
    pub fn html<'a>(&'a self, title: &str, other: u64, panel: &impl Fn(&PairKey) -> Option<Panel<'a>>) -> String {
        let (panels, pairs) = self.busiest(panel);
        draw::html(title, &panels, LeftOut { pairs, other })
    }
}

#[cfg(test)]
mod tests {
    use go_metro_rtt::{
        Addr, Class, Endpoint, FlowKey, Interval, Kind, Label, Nanos, Place, SeqNum, Side, Summaries, SummaryLimits,
    };

    use super::*;

    /// A sample of the pair of 10.0.0.1 and 10.0.0.`remote`, in nanoseconds.
    fn sample(remote: u8, acked_at: u64, rtt: u64) -> Sample {
        let end = |last| Endpoint { addr: Addr::v4([10, 0, 0, last]), port: 80 };
        let flow = FlowKey { local: end(1), remote: end(remote), ifindex: 1, side: Side::Remote };
        let (acked_at, ack, rtt) = (Nanos(acked_at), SeqNum(1), Rtt(rtt));
        let (label, place) = (Label::NONE, Place::default());
        Sample { flow, acked_at, ack, rtt, kind: Kind::Data, class: Class::Exact, delayed: false, label, place }
    }

    /// What is drawn of each pair of an interval, all of them called `dst`.
    fn panels<'a>(interval: &'a Interval, dst: &'a str) -> impl Fn(&PairKey) -> Option<Panel<'a>> {
        move |key| {
            let (_, summary) = interval.pairs.iter().find(|(known, _)| known == key)?;
            Some(Panel { src: "10.0.0.1", dst, iface: "0", stats: summary.data.as_ref()? })
        }
    }

    /// A minute at 20 ms with one outlier at 900 ms, to a host with a hostile name.
    fn drawn(as_page: bool) -> String {
        let (mut plot, mut summaries) = (Plot::default(), Summaries::new(SummaryLimits::default()));
        for k in 0..6000_u64 {
            let rtt = if k == 3000 { 900_000_000 } else { 20_000_000 + k % 7 * 300_000 };
            let sample = sample(2, 1_700_000_000_000_000_000 + k * 10_000_000, rtt);
            plot.add(&sample);
            summaries.add(&sample);
        }
        let interval = summaries.take();
        let panel = panels(&interval, "<b>&\"x");
        if as_page { plot.html("a <capture>", 0, &panel) } else { plot.svg("a <capture>", 0, &panel) }
    }

    #[test]
    fn an_outlier_among_thousands_is_drawn_and_named() {
        let svg = drawn(false);
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("class=\"outlier\"").count(), 1, "{}", &svg[..2000]);
        assert!(svg.contains("<title>900 ms at +30.000 s</title>"));
        assert!(svg.len() < 300_000, "{} bytes", svg.len());
        for text in ["p50 2", "p95 2", "p99 2", "6000 samples"] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn no_name_breaks_the_file_and_nothing_is_fetched() {
        let page = drawn(true);
        assert!(page.starts_with("<!doctype html>") && page.contains("&lt;b&gt;&amp;&quot;x") && !page.contains("<b>"));
        assert!(page.contains("a &lt;capture&gt;"));
        let addresses = page.matches("http").count() - page.matches("http://www.w3.org/2000/svg").count();
        assert_eq!((addresses, page.matches("src=\"").count(), page.matches("@import").count()), (0, 0, 0));
    }

    #[test]
    fn a_file_says_of_how_many_pairs_it_shows_the_busiest() {
        let (mut plot, mut summaries) = (Plot::new(3), Summaries::new(SummaryLimits::default()));
        for pair in 0..14 {
            for _ in 0..=pair {
                let sample = sample(2 + pair, 1, 1_000_000);
                plot.add(&sample);
                summaries.add(&sample);
            }
        }
        let interval = summaries.take();
        let panel = panels(&interval, "10.0.0.2");
        for text in [plot.html("t", 0, &panel), plot.svg("t", 0, &panel)] {
            assert!(text.contains("3 of 14 pairs, those with most samples: --plot-pairs N draws more"), "{text}");
            assert!(text.contains("14 samples") && !text.contains("11 samples"));
        }
    }

    #[test]
    fn what_was_sent_again_is_marked_where_it_was_and_the_legend_counts_it_by_cause() {
        let (mut plot, mut summaries) = (Plot::default(), Summaries::new(SummaryLimits::default()));
        let start = 1_700_000_000_000_000_000;
        for k in 0..100 {
            let sample = sample(2, start + k * 10_000_000, 20_000_000);
            plot.add(&sample);
            summaries.add(&sample);
        }
        let pair = PairKey::from(&sample(2, 1, 1).flow);
        let at = |ms: u64| start + ms * 1_000_000;
        // Of one moment the worst is shown, and all are named; before the first sample there is one too.
        for (ms, cause, segments) in [(500, Cause::Fast, 3), (500, Cause::Timeout, 1), (900, Cause::TailProbe, 1)] {
            plot.add_resent(pair, at(ms), cause, segments);
        }
        plot.add_resent(pair, start - 500_000_000, Cause::Syn, 1);
        // Of a pair that has no samples nothing is drawn.
        plot.add_resent(PairKey::from(&sample(3, 1, 1).flow), at(1), Cause::Unknown, 7);
        let interval = summaries.take();
        let panel = panels(&interval, "10.0.0.2");
        let [svg, page] = [plot.svg("t", 0, &panel), plot.html("t", 0, &panel)];
        for (drawing, panels) in [(&svg, 1), (&page, 2)] {
            // A mark has a title; the legend's has none.
            let marks = |cause: &str| {
                let all = drawing.lines().filter(|line| line.contains(&format!("class=\"again {cause}\"")));
                all.filter(|line| line.contains("<title>")).count()
            };
            assert_eq!(["syn", "timeout", "fast", "tail_probe"].map(marks), [panels, panels, 0, panels], "{drawing}");
            let told = written(drawing);
            assert!(told.contains("1 timeout, 3 fast at +1.000 s") && told.contains("1 syn at +0.000 s"), "{told}");
            assert!(told.contains("retransmitted: 1 syn 1 timeout 3 fast 1 tail probe"), "{told}");
            assert!(!told.contains(" unknown"), "{told}");
        }
        assert!(!drawn(false).contains("retransmitted"), "nothing was");
    }

    #[test]
    fn nothing_at_all_is_said_to_be_nothing() {
        assert!(Plot::default().svg("empty", 0, &|_| None).contains("no samples"));
    }

    /// Series of RTTs in nanoseconds, a millisecond after each other, of a pair each; `most` of them drawn.
    fn series(most: usize, all: &[Vec<u64>], other: u64) -> [String; 2] {
        let (mut plot, mut summaries) = (Plot::new(most), Summaries::new(SummaryLimits::default()));
        for (pair, rtts) in all.iter().enumerate() {
            for (k, rtt) in rtts.iter().enumerate() {
                let sample = sample(2 + pair as u8, 1_700_000_000_000_000_000 + k as u64 * 200_000, *rtt);
                plot.add(&sample);
                summaries.add(&sample);
            }
        }
        let interval = summaries.take();
        let panel = panels(&interval, "10.0.0.2");
        [plot.svg("t", other, &panel), plot.html("t", other, &panel)]
    }

    /// The text of each element of this class, within each panel (panels are apart by their frames).
    fn labels<'a>(drawing: &'a str, anchor: &str) -> Vec<Vec<&'a str>> {
        let of = |panel: &'a str| -> Vec<&'a str> {
            let all = panel.lines().filter(|line| line.contains(anchor) && line.starts_with("<text class=\"faint\""));
            all.map(|line| line.split(['>', '<']).nth(2).unwrap_or_default()).collect()
        };
        drawing.split("text-anchor=\"end\">ms<").skip(1).map(of).collect()
    }

    #[test]
    fn no_two_labels_of_an_axis_and_no_ends_of_a_bin_are_alike() {
        let narrow = |base: u64, step: u64| (0..9).map(|k| base + k * step).collect::<Vec<u64>>();
        for rtts in [
            vec![476],
            vec![3_000_000],
            narrow(476, 1),
            narrow(32_000, 11),
            narrow(20_031_000, 700),
            narrow(1_501_000_000, 1),
            narrow(900, 50_000_000),
        ] {
            for drawing in series(12, std::slice::from_ref(&rtts), 0) {
                for anchor in ["text-anchor=\"end\"", "text-anchor=\"middle\""] {
                    for axis in labels(&drawing, anchor) {
                        assert!(axis.len() > 1 || rtts.len() == 1, "{rtts:?}: {axis:?}");
                        let mut alone = axis.clone();
                        alone.sort_unstable();
                        alone.dedup();
                        assert_eq!(alone.len(), axis.len(), "{rtts:?}: {axis:?}");
                    }
                }
                for bin in drawing.split("<title>").skip(1).filter_map(|title| title.split_once(" ms:")) {
                    let (from, to) = bin.0.split_once(" to ").unwrap();
                    assert!(from != to, "{rtts:?}: {bin:?}");
                }
                assert!(!drawing.contains("min 0,") && !drawing.contains("<td>0.000<td>"), "{rtts:?}");
            }
        }
    }

    #[test]
    fn a_single_sample_has_no_jitter() {
        let [svg, page] = series(12, &[vec![3_000_000]], 0);
        assert!(svg.contains("max 3 ms<") && !svg.contains("jitter"), "{svg}");
        assert!(page.contains("<td>3.000<td>-\n"), "{page}");
    }

    /// What is written in a drawing, without the ends of its lines.
    fn written(drawing: &str) -> String {
        let parts = drawing.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text.trim());
        parts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_not_drawn_is_said() {
        let all = [vec![1_000_000; 3000], vec![2_000_000; 3]];
        for drawing in series(12, &all, 0).map(|drawing| written(&drawing)) {
            assert!(drawing.contains("of the samples drawn: of each moment the first, the smallest and the largest"));
            assert!(!drawing.contains("further pairs"));
        }
        let [svg, page] = series(0, &all, 185);
        for drawing in [written(&svg), written(&page)] {
            assert!(drawing.contains("0 of 2 pairs") && drawing.contains("--plot-pairs N draws more"), "{drawing}");
            let text = "185 samples of further pairs, beyond --max-pairs, are not drawn";
            assert!(drawing.contains(text) && !drawing.contains("no samples"), "{drawing}");
        }
    }
}
