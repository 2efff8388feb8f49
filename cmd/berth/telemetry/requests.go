package telemetry

import (
	"context"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/berthhq/berth/cmd/berth/server"
)

type requestMetrics struct {
	inFlight   prometheus.Gauge
	total      *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	received   *prometheus.CounterVec
	sent       *prometheus.CounterVec
	redirects  *prometheus.CounterVec
	operations *prometheus.CounterVec
}

func newRequestMetrics(t *Telemetry) requestMetrics {
	return requestMetrics{
		inFlight: t.gauges("berth_http_requests_in_flight", "Requests that are being answered.").WithLabelValues(),
		total:    t.counters("berth_http_requests_total", "Requests that were answered.", "route", "method", "code"),
		duration: t.histograms("berth_http_request_duration_seconds", "Time from a request's header to the end of its response.",
			[]float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}, "route", "method"),
		received:   t.counters("berth_http_received_bytes_total", "Bytes of request bodies that were read.", "route"),
		sent:       t.counters("berth_http_sent_bytes_total", "Bytes of response bodies that were sent.", "route"),
		redirects:  t.counters("berth_redirects_total", "Reads that were redirected, by the target's name in the configuration.", "target"),
		operations: t.counters("berth_operations_total", "Pulls, pushes, mounts and deletions of blobs and manifests, and tags that were set.", "action", "kind"),
	}
}

// Begin counts a request that starts, and starts its span, as a child of the span in
// its Traceparent header if it has one. It returns the context for its handlers, and
// the id of its trace, which is empty without traces.
func (t *Telemetry) Begin(r *http.Request) (ctx context.Context, traceID string) {
	t.requests.inFlight.Inc()
	ctx = propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := t.tracer.Start(ctx, method(r.Method), trace.WithSpanKind(trace.SpanKindServer))
	if span.IsRecording() || span.SpanContext().IsSampled() {
		traceID = span.SpanContext().TraceID().String()
	}
	return ctx, traceID
}

// End counts a request that has ended, and ends its span. The context is that of
// Begin.
func (t *Telemetry) End(ctx context.Context, e server.Exchange) {
	m, route, verb := &t.requests, e.Route, method(e.Method)
	if route == "" {
		route = "other"
	}
	m.inFlight.Dec()
	m.total.WithLabelValues(route, verb, code(e.Status)).Inc()
	m.duration.WithLabelValues(route, verb).Observe(e.Took.Seconds())
	m.received.WithLabelValues(route).Add(float64(e.Received))
	m.sent.WithLabelValues(route).Add(float64(e.Sent))
	if e.Redirect != "" {
		m.redirects.WithLabelValues(e.Redirect).Inc()
	}
	for _, event := range e.Events {
		kind := "blob"
		if event.Manifest {
			kind = "manifest"
		}
		m.operations.WithLabelValues(string(event.Action), kind).Inc()
	}

	span := trace.SpanFromContext(ctx)
	if span.IsRecording() {
		span.SetName(verb + " " + route)
		span.SetAttributes(
			attribute.String("http.request.method", verb),
			attribute.String("http.route", route),
			attribute.Int("http.response.status_code", e.Status),
			attribute.String("client.address", e.Client),
			attribute.String("berth.request_id", e.ID),
			attribute.String("berth.repository", e.Repository),
		)
		if e.Status >= 500 {
			span.SetStatus(codes.Error, "")
		}
	}
	span.End()
}

// method returns a method as a label. Clients can send any word as a method.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	default:
		return "other"
	}
}

// code returns a status as a label.
func code(status int) string { return strconv.Itoa(status) }
