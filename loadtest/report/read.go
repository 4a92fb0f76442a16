package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sluice/loadtest"
)

// most is how large a file may be that is read.
const most = 256 << 20

// Read reads the run of a report: the folder, or its run.json by whatever name.
func Read(path string) (*loadtest.Run, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, RunFile)
	}
	content, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	run, err := decode(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return run, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the caller's own file
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if len(content) > most {
		return nil, fmt.Errorf("%s: is larger than %d MB: not a report's", path, most>>20)
	}
	return content, nil
}

func decode(content []byte) (*loadtest.Run, error) {
	var head struct {
		Format *int `json:"format"`
	}
	if err := json.Unmarshal(content, &head); err != nil {
		return nil, fmt.Errorf("is not the run.json of a load test: %w", err)
	}
	if head.Format == nil {
		return nil, errors.New("is not the run.json of a load test: it has no format")
	}
	if *head.Format != loadtest.RunFormat {
		return nil, fmt.Errorf("has format %d; this sluice reads format %d", *head.Format, loadtest.RunFormat)
	}
	run := new(loadtest.Run)
	if err := json.Unmarshal(content, run); err != nil {
		return nil, fmt.Errorf("is not the run.json of a load test: %w", err)
	}
	if len(run.Rounds) == 0 {
		return nil, errors.New("has no rounds, so it has no figures")
	}
	return run, nil
}

// ReadLog reads the log of latencies beside a run: of the folder, or beside its run.json. Where there is none it has no intervals.
// Its histograms are as exact as what was written.
func ReadLog(path string) ([]loadtest.Interval, error) {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		path = filepath.Dir(path)
	}
	path = filepath.Join(path, LogFile)
	content, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	intervals, err := decodeLog(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return intervals, nil
}

// encodeLog writes a histogram log: values in microseconds, the third column in seconds, each line tagged with round and class.
func encodeLog(run *loadtest.Run, intervals []loadtest.Interval) ([]byte, error) {
	var b bytes.Buffer
	w := hdrhistogram.NewHistogramLogWriter(&b)
	err := errors.Join(
		w.OutputComment("[latencies in microseconds from the intended start, tagged ROUND-CLASS; the largest of an interval in seconds]"),
		w.OutputLogFormatVersion(),
		w.OutputStartTime(run.Began.UnixMilli()),
		w.OutputLegend(),
	)
	if err != nil {
		return nil, err
	}
	for _, i := range intervals {
		if i.Values == nil {
			continue
		}
		i.Values.SetTag(fmt.Sprintf("%d-%s", i.Round, i.Class))
		i.Values.SetStartTimeMs(i.From.UnixMilli())
		i.Values.SetEndTimeMs(i.From.Add(i.For).UnixMilli())
		if err := w.OutputIntervalHistogram(i.Values); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

func decodeLog(content []byte) ([]loadtest.Interval, error) {
	var intervals []loadtest.Interval
	r := hdrhistogram.NewHistogramLogReader(bufio.NewReader(bytes.NewReader(content)))
	for {
		h, err := r.NextIntervalHistogram()
		if err != nil {
			return nil, fmt.Errorf("interval %d is not a histogram log's: %w", len(intervals)+1, err)
		}
		if h == nil {
			return intervals, nil
		}
		round, class, _ := strings.Cut(h.Tag(), "-")
		n, err := strconv.Atoi(round)
		if err != nil || class == "" {
			return nil, fmt.Errorf("interval %d is tagged %q, and not as a load test does it: ROUND-CLASS", len(intervals)+1, h.Tag())
		}
		from := time.UnixMilli(h.StartTimeMs()).UTC()
		intervals = append(intervals, loadtest.Interval{
			Round: n, Class: loadtest.Class(class), From: from, For: time.UnixMilli(h.EndTimeMs()).Sub(from), Values: h,
		})
	}
}
