package telemetry

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/berthhq/berth/blobstore/activity"
)

type storeMetrics struct {
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	retries  *prometheus.CounterVec
}

func newStoreMetrics(t *Telemetry) storeMetrics {
	return storeMetrics{
		total: t.counters("berth_store_requests_total",
			"Requests to the store, each attempt of its own. A directory has none. The outcome is ok, not_found, conflict (another writer was first), throttled, refused (any other 4xx), failed (5xx or no response) or cancelled.",
			"driver", "operation", "outcome"),
		duration: t.histograms("berth_store_request_duration_seconds", "Time from a request to the store to the header of its response.",
			[]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}, "driver", "operation"),
		retries: t.counters("berth_store_retries_total", "Requests to the store that repeat one that failed. The SDK of Azure does not mark them.", "driver", "operation"),
	}
}

// Watch returns a function that wraps the transport of a driver. It counts and traces
// each request. Neither metrics nor spans have URLs, because these can be signed.
func (t *Telemetry) Watch(driver string) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper { return &watch{t, driver, next} }
}

type watch struct {
	*Telemetry

	driver string
	next   http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (w *watch) RoundTrip(req *http.Request) (*http.Response, error) {
	op, ctx := operation(w.driver, req), req.Context()
	activity.Of(ctx).CountStoreRequest()
	if isRetry(w.driver, req.Header) {
		w.store.retries.WithLabelValues(w.driver, op).Inc()
	}
	_, span := w.tracer.Start(ctx, w.driver+" "+op, trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	start := time.Now()
	res, err := w.next.RoundTrip(req)
	result := outcome(ctx, res, err)
	w.store.total.WithLabelValues(w.driver, op, result).Inc()
	w.store.duration.WithLabelValues(w.driver, op).Observe(time.Since(start).Seconds())
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String("http.request.method", req.Method),
			attribute.String("server.address", req.URL.Host),
			attribute.String("berth.outcome", result),
		)
		if err == nil {
			span.SetAttributes(attribute.Int("http.response.status_code", res.StatusCode))
		}
		if result == outcomeFailed || result == outcomeThrottled {
			span.SetStatus(codes.Error, result)
		}
	}
	return res, err
}

// CloseIdleConnections closes those of the next transport, for [http.Client].
func (w *watch) CloseIdleConnections() {
	if c, ok := w.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

const (
	outcomeFailed    = "failed"
	outcomeThrottled = "throttled"
)

// outcome returns the outcome of a request as a label.
func outcome(ctx context.Context, res *http.Response, err error) string {
	switch {
	case err != nil && (ctx.Err() != nil || errors.Is(err, context.Canceled)):
		return "cancelled"
	case err != nil:
		return outcomeFailed
	case res.StatusCode == http.StatusNotFound:
		return "not_found"
	case res.StatusCode == http.StatusConflict, res.StatusCode == http.StatusPreconditionFailed:
		return "conflict"
	case res.StatusCode == http.StatusTooManyRequests, res.StatusCode == http.StatusServiceUnavailable:
		return outcomeThrottled
	case res.StatusCode >= 500:
		return outcomeFailed
	case res.StatusCode >= 400:
		return "refused"
	default:
		return "ok"
	}
}

// isRetry reports whether an SDK has marked a request as a repetition.
func isRetry(driver string, h http.Header) bool {
	switch driver {
	case "s3": // Amz-Sdk-Request: attempt=2; max=3
		attempt, _, _ := strings.Cut(h.Get("Amz-Sdk-Request"), ";")
		return attempt != "" && attempt != "attempt=1"
	case "gcs": // X-Goog-Api-Client: ... gccl-attempt-count/2
		_, attempt, ok := strings.Cut(h.Get("X-Goog-Api-Client"), "gccl-attempt-count/")
		attempt, _, _ = strings.Cut(attempt, " ")
		return ok && attempt != "1"
	default:
		return false
	}
}
