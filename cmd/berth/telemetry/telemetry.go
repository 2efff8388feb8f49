// Package telemetry counts and traces what a process does: the requests that it
// answers, and the requests that it sends to its store.
//
// Metrics are in the format of Prometheus, and their names start with berth_. Labels
// come from small fixed sets, or from the configuration: never from clients, so that
// clients cannot make up new time series. The names of repositories and users are in
// the access log instead.
//
// Traces are sent only if one of the standard variables of OpenTelemetry asks for it
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
package telemetry

import (
	"context"
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/trace"
)

// Telemetry is the metrics and the tracer of a process. It is safe for concurrent use.
type Telemetry struct {
	registry *prometheus.Registry
	rows     []Row
	requests requestMetrics
	store    storeMetrics

	tracer trace.Tracer
	stop   func(context.Context) error
}

// Row describes a metric, for the documentation.
type Row struct {
	Name, Type, Help string
	Labels           []string
}

// New returns the Telemetry of a process of this version. It returns an error if a
// variable of OpenTelemetry is invalid. The caller must Close it.
func New(ctx context.Context, version string) (*Telemetry, error) {
	t := &Telemetry{registry: prometheus.NewRegistry()}
	t.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	t.gauges("berth_build_info", "Always 1; the labels have the version of berth and of Go.", "version", "go_version").
		WithLabelValues(version, runtime.Version()).Set(1)
	t.requests = newRequestMetrics(t)
	t.store = newStoreMetrics(t)
	var err error
	t.tracer, t.stop, err = newTracer(ctx, version)
	return t, err
}

// Close sends the spans that are left.
func (t *Telemetry) Close(ctx context.Context) error { return t.stop(ctx) }

// Rows returns all metrics with names that start with berth_, in the order in which
// they were created.
func (t *Telemetry) Rows() []Row { return t.rows }

// Handler returns a handler that answers with all metrics.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{})
}

func (t *Telemetry) add(kind, name, help string, labels []string) {
	t.rows = append(t.rows, Row{Name: name, Type: kind, Help: help, Labels: labels})
}

func (t *Telemetry) counters(name, help string, labels ...string) *prometheus.CounterVec {
	t.add("counter", name, help, labels)
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	t.registry.MustRegister(c)
	return c
}

func (t *Telemetry) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	t.add("gauge", name, help, labels)
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	t.registry.MustRegister(g)
	return g
}

// histograms returns histograms of seconds.
func (t *Telemetry) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	t.add("histogram", name, help, labels)
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	t.registry.MustRegister(h)
	return h
}

// Gauge adds a gauge that is computed when metrics are read.
func (t *Telemetry) Gauge(name, help string, value func() float64) {
	t.add("gauge", name, help, nil)
	t.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

// Counter adds a counter that is computed when metrics are read. Its label has one of
// these values; the name of the label is empty if there is none.
func (t *Telemetry) Counter(name, help, label string, values []string, value func(label string) float64) {
	labels := []string{label}
	if label == "" {
		labels, values = nil, []string{""}
	}
	t.add("counter", name, help, labels)
	for _, v := range values {
		opts := prometheus.CounterOpts{Name: name, Help: help}
		if label != "" {
			opts.ConstLabels = prometheus.Labels{label: v}
		}
		t.registry.MustRegister(prometheus.NewCounterFunc(opts, func() float64 { return value(v) }))
	}
}
