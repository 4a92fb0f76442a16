package knsq

import (
	"context"
	"log/slog"
	"slices"

	"github.com/go-kratos/kratos/v2/log"
)

// kratosHandler writes slog's records to a logger of Kratos. Attributes keep their names; groups are not used here.
type kratosHandler struct {
	to    log.Logger
	attrs []any
}

var levels = map[slog.Level]log.Level{
	slog.LevelDebug: log.LevelDebug, slog.LevelInfo: log.LevelInfo, slog.LevelWarn: log.LevelWarn, slog.LevelError: log.LevelError,
}

func (h kratosHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h kratosHandler) Handle(ctx context.Context, r slog.Record) error {
	keyvals := append(slices.Clip(h.attrs), log.DefaultMessageKey, "[NSQ] "+r.Message)
	r.Attrs(func(a slog.Attr) bool {
		keyvals = append(keyvals, a.Key, a.Value.Resolve().Any())
		return true
	})
	return log.WithContext(ctx, h.to).Log(levels[r.Level], keyvals...)
}

func (h kratosHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.attrs = slices.Clip(h.attrs)
	for _, a := range attrs {
		h.attrs = append(h.attrs, a.Key, a.Value.Resolve().Any())
	}
	return h
}

func (h kratosHandler) WithGroup(string) slog.Handler { return h }
