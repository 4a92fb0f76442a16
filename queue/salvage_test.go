package queue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nsqio/go-diskqueue"
)

// onDisk is a message as nsqd writes it: its length, its time, how often it was tried, its id, its body.
func onDisk(body string) string {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+2+16+len(body)))
	b = binary.BigEndian.AppendUint64(b, uint64(1_700_000_000_000_000_000+len(body)))
	b = binary.BigEndian.AppendUint16(b, 1)
	b = append(b, "0a1b2c3d4e5f6070"...)
	return string(append(b, body...))
}

// folder is what lies in a data directory, by name.
type folder map[string]string

func (f folder) write(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range f {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// readFolder leaves out what goes while it reads: an nsqd that lives there writes its list of topics anew under a name for the
// moment.
func readFolder(t *testing.T, dir string) folder {
	t.Helper()
	f := folder{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		f[entry.Name()] = string(content)
	}
	return f
}

// numberedFile and metadata are names in the queue of a channel.
func numberedFile(n int) string { return fmt.Sprintf("events:points.diskqueue.%06d.dat", n) }

const metadata = "events:points.diskqueue.meta.dat"

// files is a folder with the metadata, if there is any, and the files of the queue, numbered from 0.
func files(meta string, contents ...string) folder {
	f := folder{}
	if meta != "" {
		f[metadata] = meta
	}
	for n, content := range contents {
		if content != none {
			f[numberedFile(n)] = content
		}
	}
	return f
}

const none = "there is no such file"

func TestSalvage_MakesFilesAndMetadataAgree(t *testing.T) {
	a, b, c, d := onDisk("a"), onDisk("bb"), onDisk(strings.Repeat("c", 5000)), onDisk("dddd")
	zeros := strings.Repeat("\x00", 100)
	strange := strings.Replace(onDisk("strange"), "0a1b", "0A1B", 1) // no id of nsqd's
	meta := func(depth, readFile, readPos, writeFile, writePos int) string {
		return fmt.Sprintf(diskMetaFormat, depth, readFile, readPos, writeFile, writePos)
	}
	for name, story := range map[string]struct {
		was, now folder
		cut      int // bytes that the log tells of; 0: none
	}{
		"killed before there was metadata":   {files("", a+b+c), files(meta(3, 0, 0, 0, len(a+b+c)), a+b+c), 0},
		"metadata that makes no sense":       {files("3\n0,", a+b), files(meta(2, 0, 0, 0, len(a+b)), a+b), 0},
		"metadata with a number below 0":     {files(meta(1, 0, -5, 0, 9), a), files(meta(1, 0, 0, 0, len(a)), a), 0},
		"messages that metadata forgot":      {files(meta(1, 0, len(a), 0, len(a+b)), a+b+c), files(meta(2, 0, len(a), 0, len(a+b+c)), a+b+c), 0},
		"a count that is wrong":              {files(meta(7, 0, 0, 0, len(a)), a), files(meta(1, 0, 0, 0, len(a)), a), 0},
		"a message that is half there":       {files("", a+c[:len(c)-1]), files(meta(1, 0, 0, 0, len(a)), a), len(c) - 1},
		"half a length":                      {files("", a+b[:3]), files(meta(1, 0, 0, 0, len(a)), a), 3},
		"nothing but half a message":         {files("", c[:99]), files(meta(0, 0, 0, 0, 0), ""), 99},
		"zeros behind a crash":               {files(meta(1, 0, 0, 0, len(a)), a+zeros), files(meta(1, 0, 0, 0, len(a)), a), len(zeros)},
		"garbage in the middle":              {files("", a+"this is no message at all, whatever it is"+b), files(meta(1, 0, 0, 0, len(a)), a), 41 + len(b)},
		"a length without an id":             {files("", a+strange+b), files(meta(1, 0, 0, 0, len(a)), a), len(strange + b)},
		"an older life's rest":               {files(meta(0, 0, len(a+b), 0, len(a+b)), a+b+c[7:]), files(meta(0, 0, len(a+b), 0, len(a+b)), a+b), len(c) - 7},
		"a next file that nobody knows":      {files(meta(1, 0, 0, 0, len(a)), a+b, c+d), files(meta(4, 0, 0, 1, len(c+d)), a+b, c+d), 0},
		"torn in two files":                  {files(meta(1, 0, 0, 0, len(a)), a+b[:9], c+d[:5]), files(meta(2, 0, 0, 1, len(c)), a, c), 14},
		"the file that was read is gone":     {files(meta(2, 1, len(a), 2, len(b)), none, none, b, c), files(meta(2, 2, 0, 3, len(c)), none, none, b, c), 0},
		"files that were read":               {files(meta(2, 2, 0, 2, len(c+d)), a, b, c+d), files(meta(2, 2, 0, 2, len(c+d)), none, none, c+d), 0},
		"all files were read":                {files(meta(0, 3, 0, 3, 0), a, b), files(meta(0, 3, 0, 3, 0)), 0},
		"the last file is gone":              {files(meta(2, 3, 9, 4, 9), a, b), files(meta(0, 3, 0, 3, 0)), 0},
		"a position in a message":            {files(meta(1, 0, len(a)-3, 0, len(a+b)), a+b), files(meta(2, 0, 0, 0, len(a+b)), a+b), 0},
		"a position behind the end":          {files(meta(1, 0, 900, 0, 999), a+b), files(meta(2, 0, 0, 0, len(a+b)), a+b), 0},
		"a file that was read to its end":    {files(meta(1, 0, len(a), 1, len(b)), a, b), files(meta(1, 1, 0, 1, len(b)), none, b), 0},
		"no message before the position":     {files(meta(2, 0, len(zeros), 0, len(zeros)), zeros+a+b), files(meta(2, 0, len(zeros), 0, len(zeros+a+b)), zeros+a+b), 0},
		"a file that is missing":             {files("", a, none, none, b), files(meta(2, 0, 0, 1, len(b)), a, b), 0},
		"files with nothing in them":         {files("", "", a, "", zeros, b, ""), files(meta(2, 1, 0, 3, 0), none, a, b, ""), len(zeros)},
		"stopped":                            {files(meta(3, 1, len(a), 2, len(d)), none, a+b+c, d), files(meta(3, 1, len(a), 2, len(d)), none, a+b+c, d), 0},
		"stopped when all was read":          {files(meta(0, 5, len(a+b), 5, len(a+b)), none, none, none, none, none, a+b), files(meta(0, 5, len(a+b), 5, len(a+b)), none, none, none, none, none, a+b), 0},
		"metadata alone":                     {files(meta(0, 5, 0, 5, 0)), files(meta(0, 5, 0, 5, 0)), 0},
		"metadata alone, of messages":        {files(meta(2, 3, 9, 4, 9)), files(meta(0, 3, 0, 3, 0)), 0},
		"what nsqd set aside, and no queues": {folder{numberedFile(0) + ".bad": zeros, "nsqd.dat": "{}", "x.diskqueue.01.dat": zeros, "x.diskqueue.0000001.dat": zeros, "y.dat": a}, folder{numberedFile(0) + ".bad": zeros, "nsqd.dat": "{}", "x.diskqueue.01.dat": zeros, "x.diskqueue.0000001.dat": zeros, "y.dat": a}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := story.was.write(t)
			var log bytes.Buffer
			if err := salvage(dir, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
				t.Fatal(err)
			}
			if got := readFolder(t, dir); !maps.Equal(got, story.now) {
				t.Errorf("the folder is\n%q, want\n%q", got, story.now)
			}
			lines, told := strings.Count(log.String(), "\n"), fmt.Sprintf("cut_bytes=%d\n", story.cut)
			changed := !maps.Equal(story.was, story.now)
			if changed != (lines == 1) || lines > 1 || (changed && !strings.HasSuffix(log.String(), told)) {
				t.Errorf("the log has %d lines, want %s:\n%s", lines, told, log.String())
			}
			log.Reset()
			if err := salvage(dir, slog.New(slog.NewTextHandler(&log, nil))); err != nil || log.Len() > 0 {
				t.Errorf("done again: %v, %s", err, log.String())
			}
		})
	}
}

func TestSalvage_KeepsQueuesApart(t *testing.T) {
	a, b := onDisk("a"), onDisk("bb")
	dir := folder{
		"orders.diskqueue.000000.dat": a, "orders:settle.diskqueue.000000.dat": a + b,
		"a.diskqueue.000001.diskqueue.000007.dat": b, // dots may be in names
	}.write(t)
	if err := salvage(dir, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	got := readFolder(t, dir)
	for name, want := range map[string]string{
		"orders": "1\n0,0\n0,31\n", "orders:settle": "2\n0,0\n0,63\n", "a.diskqueue.000001": "1\n7,0\n7,32\n",
	} {
		if meta := got[name+".diskqueue.meta.dat"]; meta != want {
			t.Errorf("%s has %q, want %q", name, meta, want)
		}
	}
}

// A folder that has the name of a queue's file is put aside, and the queue is served.
func TestServer_PutsAsideWhatIsNoFile(t *testing.T) {
	noLeaks(t)
	dir := folder{numberedFile(0): onDisk("a"), numberedFile(2): onDisk("bb")}.write(t)
	for _, name := range []string{metadata, numberedFile(1), "other.diskqueue.meta.dat"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s, err := StartServer(ServerConfig{Listen: freeAddr(t), DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stopServer(t, s)
	for _, name := range []string{metadata, numberedFile(1), "other.diskqueue.meta.dat"} {
		if err := os.Remove(filepath.Join(dir, name+bad)); err != nil { // readFolder can't read them
			t.Error(err)
		}
	}
	got := readFolder(t, dir)
	want := files("2\n0,0\n1,32\n", onDisk("a"), onDisk("bb"))
	for name, content := range want {
		if got[name] != content {
			t.Errorf("%s is %q, want %q", name, got[name], content)
		}
	}
}

// What is damaged is kept, but not a message that was being written; metadata that was being written is removed.
func TestSalvage_KeepsDamage(t *testing.T) {
	a, b := onDisk("a"), onDisk("bb")
	damage := strings.Repeat("\x00", diskLength+diskLongest+1)
	at := func(number, offset int) string { return fmt.Sprintf("%s.%d.bad", numberedFile(number), offset) }
	for name, c := range map[string]struct {
		was, kept folder
	}{
		"a message that was being written": {files("", a+damage[:100]), folder{}},
		"a tail":                           {files("", a+damage), folder{at(0, len(a)): damage}},
		"the first file":                   {files("", damage, b), folder{at(0, 0): damage}},
		"a file among others":              {files("", a, damage, b), folder{at(1, 0): damage}},
		"the last file":                    {files("", a, b, damage), folder{at(2, 0): damage}},
		"all there is":                     {files("9\n0,7\n0,9\n", damage), folder{at(0, 0): damage}},
		"behind what was read":             {files("0\n0,31\n0,31\n", a+damage), folder{at(0, 0): a + damage}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, left := range []string{metadata + ".4711.tmp", metadata + ".tmp", at(3, 4) + ".tmp"} {
				c.was[left] = "1"
			}
			dir := c.was.write(t)
			if err := salvage(dir, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
			got := readFolder(t, dir)
			maps.DeleteFunc(got, func(name, _ string) bool { return strings.HasSuffix(name, ".dat") })
			if !maps.Equal(got, c.kept) {
				t.Errorf("kept %.999q, want %.999q", got, c.kept)
			}
			var want []string
			for n := range 3 {
				if kept, ok := c.was[numberedFile(n)]; ok && name != "behind what was read" {
					want = append(want, wholeMessages(kept)...)
				}
			}
			readsBack(t, dir, want)
		})
	}
}

// Damage of the same file keeps what there is of an earlier one.
func TestSalvage_KeepsDamageOfTheSameFileApart(t *testing.T) {
	a := onDisk("a")
	damage := strings.Repeat("\x00", diskLength+diskLongest+1)
	dir := folder{numberedFile(0): a + damage, numberedFile(0) + bad: "of nsqd's"}.write(t)
	for n := 1; n < 3; n++ {
		if err := salvage(dir, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		again := strings.Repeat(a, n+1) + damage + fmt.Sprint("damage ", n)
		if err := os.WriteFile(filepath.Join(dir, numberedFile(0)), []byte(again), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := salvage(dir, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	got := readFolder(t, dir)
	for name, want := range map[string]string{".bad": "of nsqd's", ".31.bad": damage, ".62.bad": damage + "damage 1", ".93.bad": damage + "damage 2"} {
		if got[numberedFile(0)+name] != want {
			t.Errorf("%s has %d bytes, want %d", name, len(got[numberedFile(0)+name]), len(want))
		}
	}
}

// Of each queue's damage the newest is kept, and as much of the older as has room with it.
func TestSalvage_BoundsTheDamageThatIsKept(t *testing.T) {
	began := time.Now().Add(-time.Hour)
	dir := t.TempDir()
	put := func(name string, mib int64, age time.Duration) {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, mib<<20), os.Chtimes(file, began, began.Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	put("a.diskqueue.000009.dat.bad", 100, 4)
	put("a.diskqueue.000001.dat.77.bad", 100, 1)
	put("a.diskqueue.000003.dat.0.bad", 100, 2)
	put("a.diskqueue.000002.dat.0.bad", 1, 3)
	put("a.diskqueue.000002.dat", 0, 5)
	put("b.diskqueue.000001.dat.0.bad", 300, 9)
	put("b.diskqueue.000002.dat.0.bad", 1, 10)
	put("b.bad", 300, 11)
	var log bytes.Buffer
	if err := salvage(dir, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	var got []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), bad) {
			got = append(got, entry.Name())
		}
	}
	want := []string{"a.diskqueue.000001.dat.77.bad", "a.diskqueue.000002.dat.0.bad", "a.diskqueue.000003.dat.0.bad", "b.bad", "b.diskqueue.000001.dat.0.bad"}
	if !slices.Equal(got, want) || strings.Count(log.String(), "is removed") != 2 {
		t.Errorf("kept\n%q, want\n%q; the log is\n%s", got, want, log.String())
	}
}

// A start that fails because its disk does leaves the list of topics as it was for the next one.
func TestServer_DoesNotStartWhereAQueueCannotBeMended(t *testing.T) {
	noLeaks(t)
	dir := folder{numberedFile(0): onDisk("a"), "nsqd.dat": `{"topics":[{"name":"events"}]}`}.write(t)
	for _, inTheWay := range []string{metadata, filepath.Join(metadata+bad, "x")} { // so that nothing can be renamed
		if err := os.MkdirAll(filepath.Join(dir, inTheWay), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cfg := ServerConfig{Listen: freeAddr(t), DataDir: dir}
	if s, err := StartServer(cfg); err == nil || !strings.Contains(err.Error(), "queue events:points") || !strings.Contains(err.Error(), dir) {
		t.Fatalf("StartServer = %v, %v; want an error with the queue and the directory", s, err)
	}
	if list := readList(t, dir); !strings.Contains(list, "events") {
		t.Errorf("the list of topics became %s", list)
	}
	if err := os.RemoveAll(filepath.Join(dir, metadata)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "directory and address free again", func() bool {
		s, err := StartServer(cfg)
		if err != nil {
			return false
		}
		stopServer(t, s)
		return true
	})
	if err := salvage(filepath.Join(dir, "none"), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a directory that can't be listed was mended")
	}
}

func readList(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadFile(filepath.Join(dir, "nsqd.dat"))
	if err != nil {
		t.Fatal(err)
	}
	return string(list)
}

// wholeMessages are the messages that follow each other at the beginning of a file.
func wholeMessages(file string) (messages []string) {
	for len(file) >= 4 {
		n := 4 + int(binary.BigEndian.Uint32([]byte(file)))
		if n < 30 || n > 30+MaxMessageBytes || n > len(file) || strings.Trim(file[14:30], "0123456789abcdef") != "" {
			break
		}
		messages, file = append(messages, file[4:n]), file[n:]
	}
	return messages
}

// Whatever lies there, nsqd's own queue then reads what was kept and after that what it is given, and finds nothing wrong.
func FuzzSalvage(f *testing.F) {
	a, b, c := onDisk("a"), onDisk("bb"), onDisk(strings.Repeat("c", 6000))
	f.Add("", a+b+c, "", "")
	f.Add("", c+c[:200]+a+b, "\x00\x00", b+c)
	f.Add(fmt.Sprintf(diskMetaFormat, 1, 0, len(a), 0, len(a+b)), a+b+c, c+b, a)
	f.Add(fmt.Sprintf(diskMetaFormat, 2, 1, len(a), 3, len(b)), a, a+b, b)
	f.Add(fmt.Sprintf(diskMetaFormat, 2, 1, 3, 2, 77), a+b, a+b+c, c[:50])
	f.Add("9\n9,9\n9,9\n", a, b, c)
	f.Add("0\n3,5\n1,1\n", a, b, "")
	f.Fuzz(func(t *testing.T, meta, first, second, third string) {
		dir := files(meta, first, second, none, third).write(t)
		if err := salvage(dir, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		q := &diskQueue{disk: osDisk{}, dir: dir, name: "events:points"}
		m, known, err := q.readMeta()
		if err != nil || !known {
			t.Fatalf("metadata %v, %v", known, err)
		}
		kept := keptMessages(t, dir, m)
		if meta == "" {
			if want := slices.Concat(wholeMessages(first), wholeMessages(second), wholeMessages(third)); !slices.Equal(kept, want) {
				t.Errorf("%d messages are kept, want %d", len(kept), len(want))
			}
		}
		readsBack(t, dir, kept)
	})
}

// keptMessages are those that metadata says are to be read.
func keptMessages(t *testing.T, dir string, m diskMeta) (kept []string) {
	t.Helper()
	f := readFolder(t, dir)
	for n := m.readFile; n <= m.writeFile; n++ {
		content, ok := f[numberedFile(int(n))]
		if n == m.readFile && ok {
			content = content[m.readPos:]
		}
		messages := wholeMessages(content)
		if len(content) != 4*len(messages)+len(strings.Join(messages, "")) || (len(messages) == 0 && n < m.writeFile) {
			t.Errorf("file %d has more than its %d messages", n, len(messages))
		}
		kept = append(kept, messages...)
	}
	if int64(len(kept)) != m.depth {
		t.Errorf("metadata counts %d messages; there are %d", m.depth, len(kept))
	}
	return kept
}

func readsBack(t *testing.T, dir string, kept []string) {
	t.Helper()
	complain := func(level diskqueue.LogLevel, format string, args ...any) {
		if level >= diskqueue.WARN {
			t.Errorf(format, args...)
		}
	}
	q := diskqueue.New("events:points", dir, 1<<20, diskHead, diskLongest, 2500, 2*time.Second, complain)
	defer func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}()
	fresh := []string{onDisk("x")[4:], onDisk(strings.Repeat("y", 5000))[4:], onDisk("z")[4:]}
	for _, message := range fresh {
		if err := q.Put([]byte(message)); err != nil {
			t.Fatal(err)
		}
	}
	for n, want := range slices.Concat(kept, fresh) {
		if got := within(t, fmt.Sprint("message ", n), q.ReadChan()); string(got) != want {
			t.Fatalf("message %d is %.99q, want %.99q", n, got, want)
		}
	}
	if depth := q.Depth(); depth != 0 {
		t.Errorf("%d messages too many", depth)
	}
}

// life is one of an nsqd's: it takes so many messages and ends.
type life struct {
	messages int
	stopped  bool // otherwise killed before it has written metadata
}

// P3: of what an nsqd takes it loses nothing by how the ones before it ended, if it lives itself.
func TestServer_KeepsWhatItTakesAfterOnesThatWereKilled(t *testing.T) {
	for name, lives := range map[string][]life{
		"killed before there was metadata":  {{300, false}},
		"killed after one that was stopped": {{40, true}, {60, false}},
		"killed again and again":            {{40, true}, {60, false}, {90, false}, {30, false}},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			dir, want := t.TempDir(), map[string]bool{}
			for n, l := range lives {
				var lay []string
				dir, lay = l.live(t, dir, n)
				for _, body := range lay {
					want[body] = true
				}
			}
			s := startServer(t, ServerConfig{DataDir: dir, MemQueueSize: 1, HTTP: "127.0.0.1:0", Channels: settle})
			last := bodies(len(lives), 2000)
			publishAll(t, s, last)
			for _, body := range last {
				want[body] = true
			}
			var in inbox
			startConsumer(t, ConsumerConfig{Addr: s.Addr(), Handle: in.finish})
			eventually(t, "nsqd empty", func() bool { return totals(t, s) == 0 })
			missing := 0
			for body := range want {
				if !in.has(body) {
					missing++
				}
			}
			if missing > 0 {
				t.Errorf("%d of %d messages never came", missing, len(want))
			}
		})
	}
}

func (b *inbox) has(body string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen[body] > 0
}

// bodies are of many sizes, so that those of two lives do not begin at the same places.
func bodies(life, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("life %d, message %d, %s", life, i, strings.Repeat("x", (life*131+i*37)%900))
	}
	return all
}

func publishAll(t *testing.T, s *Server, all []string) {
	t.Helper()
	b := dialBatches(t, s.Addr(), patience)
	raw := make([][]byte, len(all))
	for i, body := range all {
		raw[i] = []byte(body)
	}
	if err := b.Publish(t.Context(), TopicOrders, raw); err != nil {
		t.Fatal(err)
	}
}

// take has nsqd take messages, and waits until they lie in the channel, all but one or two on disk.
func take(t *testing.T, s *Server, all []string) {
	t.Helper()
	before := totals(t, s)
	publishAll(t, s, all)
	eventually(t, "all in the channel", func() bool {
		topic, err := ProbeTopic(t.Context(), s.HTTPAddr(), nil, TopicOrders)
		return err == nil && topic.Channels[ChannelSettle] >= before+int64(len(all))
	})
}

// live answers the directory as the life leaves it, and which of its messages lie there. A life in which nsqd came to write
// metadata is lived again.
func (l life) live(t *testing.T, from string, number int) (dir string, lay []string) {
	t.Helper()
	for range 20 {
		dir = readFolder(t, from).write(t)
		s := startServer(t, ServerConfig{DataDir: dir, MemQueueSize: 1, HTTP: "127.0.0.1:0", Channels: settle})
		before := readFolder(t, dir)
		all := bodies(number, l.messages)
		take(t, s, all)
		if l.stopped {
			stopServer(t, s)
			return dir, all
		}
		dir = readFolder(t, dir).write(t) // which is what kill -9 leaves
		stopServer(t, s)
		after := readFolder(t, dir)
		if sameMetadata(before, after) {
			return dir, slices.DeleteFunc(all, func(body string) bool { return !after.holds(body) })
		}
	}
	t.Fatal("nsqd wrote metadata each time: the machine is too slow for this test")
	return "", nil
}

func sameMetadata(a, b folder) bool {
	of := func(f folder) folder {
		f = maps.Clone(f)
		maps.DeleteFunc(f, func(name, _ string) bool { return !strings.Contains(name, ChannelSettle+".diskqueue.meta.dat") })
		return f
	}
	return maps.Equal(of(a), of(b))
}

func (f folder) holds(body string) bool {
	for name, content := range f {
		if strings.Contains(name, ".diskqueue.") && strings.Contains(content, body) {
			return true
		}
	}
	return false
}
