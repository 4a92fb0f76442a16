package browsertest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// tab is one buyer's browser, the size of a phone.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex
	complaints []string // of the browser: what a policy stopped, scripts that failed
}

func openTab(t *testing.T) *tab {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox)
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, closeTab := chromedp.NewContext(allocator)
	b := &tab{t: t, ctx: ctx}
	b.do(chromedp.EmulateViewport(390, 780, chromedp.EmulateScale(2), chromedp.EmulateMobile))
	var wg sync.WaitGroup
	console := chromedp.Console(ctx)
	wg.Go(func() {
		for message, err := range console {
			if err != nil {
				return
			}
			b.mu.Lock()
			b.complaints = append(b.complaints, string(message.Type)+": "+message.Text)
			b.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		closeTab()
		wg.Wait()
	})
	return b
}

// patience is how long a browser may take for anything.
const patience = 30 * time.Second

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	run(b, chromedp.Steps(steps...))
}

func run[T any](b *tab, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx := b.ctx
	if chromedp.FromContext(ctx).Target != nil { // the first run is for as long as the browser lives
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		page, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.body.innerText`))
		b.t.Fatalf("%v; the page says:\n%s", err, page)
	}
	return v
}

func eval[T any](b *tab, script string, options ...chromedp.EvaluateOption) T {
	b.t.Helper()
	return run(b, chromedp.Evaluate[T](script, options...))
}

// until waits for something to become true of the page, by itself; pages may come and go meanwhile.
func (b *tab) until(what, script string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](script)); err == nil && ok {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("never: %s; the page says:\n%s", what, b.text())
		}
	}
}

// says waits for the page to say something.
func (b *tab) says(text string) {
	b.t.Helper()
	b.until(text, fmt.Sprintf(`document.body !== null && document.body.innerText.includes(%q)`, text))
}

// text is what a reader sees.
func (b *tab) text() string {
	b.t.Helper()
	return eval[string](b, `document.body.innerText`)
}

func (b *tab) address() string {
	b.t.Helper()
	return run(b, chromedp.Location())
}

const (
	button   = chromedp.CSS("button")
	link     = chromedp.CSS("a.go")
	position = chromedp.CSS("#position")
)

// order goes to a page with a form and posts it.
func (b *tab) order(page string) {
	b.t.Helper()
	b.do(chromedp.Navigate(page), chromedp.Click(button))
}

// picture keeps a screenshot in both themes, where SLUICE_SCREENSHOTS names a folder.
func (b *tab) picture(name string) {
	b.t.Helper()
	dir := os.Getenv("SLUICE_SCREENSHOTS")
	if dir == "" {
		return
	}
	for _, theme := range []string{"light", "dark"} {
		send(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}},
		})
		png := run(b, chromedp.CaptureScreenshot())
		if err := os.WriteFile(filepath.Join(dir, name+"-"+theme+".png"), png, 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
}

// send sends the browser a command of its protocol.
func send[P, R any](b *tab, command cdp.Command[P, R], params P) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, command, params)
		return err
	}))
}

// quiet fails where the browser complained of anything but the statuses of refusals.
func (b *tab) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.complaints {
		if !strings.Contains(c, "the server responded with a status of") && !strings.Contains(c, "favicon") {
			b.t.Errorf("the browser complains: %s", c)
		}
	}
}

func TestBuyer_OrdersByAFormAndSeesTheOutcomeAppear(t *testing.T) {
	s := startShop(t, "--drain-rate", "2", "--batch", "1")
	s.sale("spring", `"stock":100,"payment_window":"15m","checkout_url":"https://pay.example/?o={order}"`)
	b := openTab(t)
	for n := range 10 { // the line ahead
		if status, answer := s.buy("spring", fmt.Sprintf("ahead-%d", n)); status != 202 {
			t.Fatalf("ahead: %d %v", status, answer)
		}
	}
	b.order(s.site.URL + "/?sale=spring&user=alice")
	b.do(chromedp.WaitVisible(position))
	b.picture("queued")
	const place = `Number(document.getElementById("position")?.textContent)`
	first := eval[int](b, place)
	if first < 3 {
		t.Errorf("place %d of eleven", first)
	}
	b.until("a place further on", fmt.Sprintf("%s < %d", place, first))

	b.says("It is yours until")
	b.picture("held")
	pay, address := eval[string](b, `document.querySelector("a.go").href`), b.address()
	order := address[strings.LastIndex(address, "/")+1:]
	if address != s.site.URL+"/sluice/wait/"+order || pay != "https://pay.example/?o="+order {
		t.Errorf("at %s it links to %s", address, pay)
	}
	b.says("Pay within 14:5") // it counts down
	if status, answer := s.call("POST", "http://"+s.admin+"/v1/orders/"+order+"/pay", `{"payment_ref":"visa-1"}`); status != 200 {
		t.Fatalf("pay: %d %v", status, answer)
	}
	b.says("Your order is complete: 1 unit.")
	b.picture("paid")
	b.quiet()
}

func TestBuyer_SeesTheOutcomeWithoutScripts(t *testing.T) {
	s := startShop(t, "--drain-rate", "1", "--batch", "1")
	s.sale("spring", `"stock":100,"payment_window":"0s"`)
	b := openTab(t)
	for n := range 4 {
		s.buy("spring", fmt.Sprintf("ahead-%d", n))
	}
	send(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.order(s.site.URL + "/?sale=spring&user=alice")
	b.do(chromedp.WaitVisible(position))
	b.says("Your order is complete")
	b.quiet()
}

func TestBuyer_SeesWhyNotAndHasAWayBack(t *testing.T) {
	s := startShop(t)
	s.sale("spring", `"stock":0`)
	b := openTab(t)
	s.sale("later", `"stock":1,"starts_at":"`+time.Now().Add(5*time.Second).UTC().Format(time.RFC3339Nano)+`"`)
	form := s.site.URL + "/?sale=later&user=alice"
	b.order(form)
	b.says("Not yet")
	if text := b.text(); !strings.Contains(text, "You can try again in ") {
		t.Errorf("it does not say when to come back:\n%s", text)
	}
	b.picture("not-started")
	b.says("try again now")
	b.do(chromedp.Click(link), chromedp.WaitVisible(button))
	if back := b.address(); back != form {
		t.Errorf("the way back leads to %s, want %s", back, form)
	}
	b.do(chromedp.Click(button))
	b.says("It is yours")
	b.order(s.site.URL + "/?sale=spring&user=alice")
	b.says("Sold out")
	b.picture("sold-out")
	b.do(chromedp.Navigate(s.site.URL + "/sluice/wait/5a46f2c0-0fce-814f-920e-caf5b0d6fdba"))
	b.says("There is no such order")
	b.quiet()
}

func TestForm_OfAnotherSiteIsRefused(t *testing.T) {
	s := startShop(t)
	s.sale("spring", `"stock":10,"payment_window":"0s"`)
	b := openTab(t)
	b.order(s.other.URL + "/?sale=spring&user=victim&door=" + s.site.URL)
	b.says("may not order here")
	b.picture("bad-origin")
	if status, answer := s.buy("spring", "victim"); status != 202 {
		t.Errorf("the victim's first order is answered %d %v: the form of the other site was taken", status, answer)
	}
	b.order(s.guest.URL + "/?sale=spring&user=guest&door=" + s.site.URL)
	b.says("Your order is complete")
	b.quiet()
}

// Scripts: a page of a listed origin reads answers, refusals and events of the door; another one reads nothing.
func TestScripts_OfListedOriginsAloneReadAnswers(t *testing.T) {
	s := startShop(t)
	s.sale("spring", `"stock":10,"payment_window":"0s"`)
	s.sale("gone", `"stock":0`)
	b := openTab(t)
	script := fmt.Sprintf(`(async () => {
		const door = %q;
		const post = (sale) => fetch(door + "/sluice/v1/sales/" + sale + "/orders", { method: "POST", credentials: "include",
			headers: { "Content-Type": "application/json", "Idempotency-Key": "k1" }, body: JSON.stringify({ user: "script" }) });
		try {
			const refused = await (await post("gone")).json();
			const answer = await post("spring"), order = await answer.json();
			const last = await new Promise((done, fail) => {
				const events = new EventSource(door + order.href + "/events");
				events.onerror = () => fail("no events");
				events.addEventListener("status", (e) => {
					const o = JSON.parse(e.data);
					if (o.status !== "queued") { events.close(); done(o.status); }
				});
			});
			return [refused.reason, answer.status, answer.headers.get("Location") === order.href, last].join(" ");
		} catch (e) { return String(e); }
	})()`, "http://"+s.door)
	for origin, want := range map[string]string{s.guest.URL: "sold-out 202 true paid", s.other.URL: "TypeError: Failed to fetch"} {
		b.do(chromedp.Navigate(origin + "/"))
		if got := eval[string](b, script, chromedp.EvalAwaitPromise); got != want {
			t.Errorf("a script of %s hears %q, want %q", origin, got, want)
		}
	}
}
