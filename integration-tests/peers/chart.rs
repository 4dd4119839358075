//! The curves of growth: what each thing costs in a longer log, beside what it costs in the shortest.

use plotters::coord::Shift;
use plotters::prelude::*;
use runledger_core::BoxError;

use crate::contender::Backend;
use crate::report::{OURS, ReadRow, Report};

const SIZE: (u32, u32) = (1_080, 420);
/// Pixels for the names of the curves.
const NAMES: i32 = 230;
/// Pixels from one name to the next.
const LINE: i32 = 22;
/// How high a chart is at least, so that noise looks like noise.
const LEAST: f64 = 2.0;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What one thing costs: events of the log, and how many times as much.
struct Curve {
    op: &'static str,
    points: Vec<(f64, f64)>,
}

/// The curves of ours as an SVG, a chart for each database; none where fewer than two lengths were measured.
pub(crate) fn growth(report: &Report) -> Result<Option<String>, BoxError> {
    let charts: Vec<(Backend, Vec<Curve>)> = [Backend::Sqlite, Backend::Postgresql]
        .into_iter()
        .map(|backend| (backend, curves(report, backend)))
        .filter(|(_, curves)| !curves.is_empty())
        .collect();
    let mut ops = Vec::new();
    for curve in charts.iter().flat_map(|(_, curves)| curves) {
        if !ops.contains(&curve.op) {
            ops.push(curve.op);
        }
    }
    if ops.is_empty() {
        return Ok(None);
    }
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let (left, right) = area.split_horizontally(SIZE.0 as i32 - NAMES);
        for ((backend, curves), part) in charts.iter().zip(left.split_evenly((1, charts.len()))) {
            draw(&part, *backend, curves, &ops)?;
        }
        for (number, op) in ops.iter().enumerate() {
            let middle = 50 + LINE * number as i32;
            let mark = vec![(8, middle), (30, middle)];
            right.draw(&PathElement::new(mark, color(&ops, op).stroke_width(3)))?;
            right.draw(&Text::new(*op, (38, middle - 6), ("sans-serif", 13)))?;
        }
        area.present()?;
    }
    Ok(Some(svg))
}

fn draw(area: &Area<'_>, backend: Backend, curves: &[Curve], ops: &[&str]) -> Result<(), BoxError> {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let first = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let last = points().map(|point| point.0).fold(first, f64::max);
    let highest = points().map(|point| point.1).fold(LEAST, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{backend}: p50 as a multiple of the shortest log's"), ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(36)
        .build_cartesian_2d((first..last).log_scale(), 0.0..highest * 1.05)?;
    let events = |value: &f64| {
        if *value < 1e6 { format!("{:.0}k", value / 1e3) } else { format!("{:.0}M", value / 1e6) }
    };
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("events of the log")
        .x_label_formatter(&events)
        .draw()?;
    for curve in curves {
        let style = color(ops, curve.op).stroke_width(2);
        chart.draw_series(LineSeries::new(curve.points.iter().copied(), style))?;
    }
    Ok(())
}

/// One around the wheel for each thing, the same in all charts.
fn color(ops: &[&str], op: &str) -> RGBAColor {
    let at = ops.iter().position(|known| *known == op).unwrap_or_default();
    let lightness = if at.is_multiple_of(2) { 0.35 } else { 0.55 };
    HSLColor(at as f64 / ops.len() as f64, 0.75, lightness).to_rgba()
}

/// Each thing that was measured at several lengths. What sums the log by its nature is no curve here.
fn curves(report: &Report, backend: Backend) -> Vec<Curve> {
    let ours = |row: &&ReadRow| !row.sums && row.about.backend == backend && row.about.name.starts_with(OURS);
    let rows: Vec<&ReadRow> = report.reads.iter().filter(ours).collect();
    let mut curves: Vec<Curve> = Vec::new();
    for row in &rows {
        if curves.iter().any(|curve| curve.op == row.op) {
            continue;
        }
        let same = rows.iter().filter(|other| other.op == row.op);
        let points: Vec<_> = same.map(|other| (other.events as f64, other.p50 / row.p50)).collect();
        if points.len() > 1 {
            curves.push(Curve { op: row.op, points });
        }
    }
    curves
}
