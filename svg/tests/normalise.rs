//! scratch
use std::time::Duration;
use svg::*;
#[test]
#[ignore]
fn corpora() {
    let program = WorkerProgram::At(env!("CARGO_BIN_EXE_svg-render-worker").into());
    let renderer = Renderer::new(&program, Duration::from_secs(10)).unwrap();
    let path = std::env::var("FILE").unwrap();
    let every: usize = std::env::var("EVERY").map_or(1, |v| v.parse().unwrap());
    let config = RenderConfig {
        background: Background::White,
        ..RenderConfig::default()
    };
    let target = Target::Exact {
        width: 256,
        height: 256,
    };
    let (mut n, mut same, mut kept, mut refused, mut bad, mut before, mut after) =
        (0, 0, 0, 0, 0, 0, 0);
    let mut whys = std::collections::BTreeMap::new();
    for line in std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .step_by(every)
    {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let (id, source) = (row["id"].as_str().unwrap(), row["svg"].as_str().unwrap());
        let Ok(a) = renderer.render(source, target, &config) else {
            continue;
        };
        n += 1;
        let form = match normalise(source, &NormaliseOptions::default(), &Limits::default()) {
            Ok(form) => form,
            Err(e) => {
                refused += 1;
                *whys.entry(e.to_string()).or_insert(0) += 1;
                continue;
            }
        };
        if let Some(why) = &form.kept {
            kept += 1;
            *whys.entry(why.clone()).or_insert(0) += 1;
        }
        let again = normalise(&form.svg, &NormaliseOptions::default(), &Limits::default());
        if again.as_ref().map(|a| &a.svg) != Ok(&form.svg) {
            println!("NOT IDEMPOTENT {id}\n{source}\n{}\n{again:?}", form.svg);
        }
        before += source.len();
        after += form.svg.len();
        let b = match renderer.render(&form.svg, target, &config) {
            Ok(b) => b,
            Err(e) => {
                bad += 1;
                println!("{id}: {e}\n{}", form.svg);
                continue;
            }
        };
        let diff = a
            .raster
            .rgba
            .iter()
            .zip(&b.raster.rgba)
            .map(|(a, b)| a.abs_diff(*b) as f64)
            .sum::<f64>()
            / a.raster.rgba.len() as f64;
        let worst = a
            .raster
            .rgba
            .iter()
            .zip(&b.raster.rgba)
            .filter(|(a, b)| a.abs_diff(**b) > 24)
            .count();
        if diff > 0.25 || worst > 60 {
            bad += 1;
            println!(
                "DIFF {diff:.3} {worst} {id} {:?}\n{source}\n{}\n",
                form.kept, form.svg
            );
        } else {
            same += 1;
        }
    }
    println!(
        "{n} drawn, {same} same, {bad} bad, {kept} kept, {refused} refused, {before} -> {after} bytes\n{whys:#?}"
    );
}
