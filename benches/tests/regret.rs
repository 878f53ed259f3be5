//! What the regret report rests on: its figures, and that random layers are always the same.

use depthwise::{Isa, Layout};
use depthwise_benches::regret::{Figures, Group, Layer, Way, csv, summary};
use depthwise_testkit::shapes::{self, Part, random};

fn layer(name: &str, microseconds: &[f64], chosen: usize) -> Layer {
    let way = |(index, us): (usize, &f64)| Way { name: format!("way-{index}"), seconds: us * 1e-6, apart: index == 2 };
    Layer { name: name.into(), ways: microseconds.iter().enumerate().map(way).collect(), chosen: vec![chosen] }
}

#[test]
fn regret_is_the_chosen_time_over_the_best() {
    let layers =
        vec![layer("twice", &[10.0, 20.0], 1), layer("best", &[30.0, 12.0, 6.0], 1), layer("short", &[1.0, 4.0], 1)];
    let group = Group { of: ["depthwise", "avx2", "nhwc", "1", "vec"].map(str::to_owned), layers };
    let figures = group.figures(0);
    assert_eq!((figures.layers, figures.above), (2, 2), "the short layer does not count");
    assert!((figures.worst - 2.0).abs() < 1e-9 && (figures.geometric_mean - 2.0).abs() < 1e-9, "{figures:?}");
    let within = group.figures_within(0);
    assert!((within.worst - 2.0).abs() < 1e-9 && (within.geometric_mean - 2f64.sqrt()).abs() < 1e-9, "{within:?}");
    let worst = group.worst((0, "prediction"), 1.05).expect("text");
    assert!(worst.contains("| 2.000 | twice | way-1 | 20.00 | way-0 | 10.00 |"), "{worst}");
    assert!(worst.contains("below 5 µs") && worst.contains("| 4.000 | short |"), "{worst}");
    let groups = [group];
    let line = "| depthwise | avx2 | nhwc | 1 | vec | prediction | 2 | 2.000 | 2.00 | 2 | 1.414 | 2.00 |";
    assert!(summary(&groups, &["prediction"]).expect("text").contains(line));
    let text = csv(&groups, &["prediction"]).expect("text");
    assert_eq!(text.lines().count(), 8, "{text}");
    assert!(text.contains("depthwise,avx2,nhwc,1,vec,twice,way-1,own,20.000,prediction\n"), "{text}");
}

#[test]
fn of_no_layers_there_is_no_regret() {
    assert_eq!(Figures::of([].into_iter()), Figures { layers: 0, geometric_mean: 1.0, worst: 1.0, above: 0 });
}

#[test]
fn random_layers_are_always_the_same_and_can_be_built() {
    let [layers, again] = [100, 20].map(random::layers);
    assert_eq!(layers.len(), 100);
    for (index, layer) in layers.iter().enumerate() {
        assert!(again.get(index).is_none_or(|again| again.name == layer.name), "{}", layer.name);
        for layout in [Layout::Nhwc, Layout::Nchw] {
            shapes::build(layer, Part::Depthwise, layout, Isa::Portable, None).expect(&layer.name);
        }
    }
}
