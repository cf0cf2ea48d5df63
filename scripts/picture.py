# Draws the panels of a Grafana dashboard from what a Prometheus has:
# picture.py DASHBOARD.json URL FILE.png.  The same data make the same file.
import io
import json
import re
import sys
import time
import urllib.parse
import urllib.request

import matplotlib
from PIL import Image

matplotlib.use('agg')
matplotlib.rcParams.update({'font.size': 8})
import matplotlib.pyplot as plt
from matplotlib.ticker import PercentFormatter

dashboard, url, output = sys.argv[1:]
end = time.time()


def ask(path, **params):
    with urllib.request.urlopen(f'{url}/api/v1/{path}?{urllib.parse.urlencode(params)}') as answer:
        return json.load(answer)['data']['result']


first = min(float(value[0]) for series in ask('query', query='supervisor_server_up[1h]') for value in series['values'])


def label(form, labels):
    for name, value in labels.items():
        form = form.replace('{{%s}}' % name, value)
    return re.sub('{{.*?}}', '', form).strip()


def series_of(panel):
    for target in panel['targets']:
        expr = target['expr'].replace('$instance', '.*').replace('$__rate_interval', '5s')
        for series in ask('query_range', query=expr, start=first, end=end, step=1):
            yield (label(target['legendFormat'], series['metric']),
                   [float(t) - first for t, _ in series['values']], [float(v) for _, v in series['values']])


panels = json.load(open(dashboard))['panels']
figure, axes = plt.subplots((len(panels) + 1) // 2, 2, figsize=(11, 2.1 * len(panels) / 2), sharex=True)
for panel, ax in zip(panels, axes.flat):
    for name, times, values in series_of(panel):
        gaps = [i for i in range(1, len(times)) if times[i] - times[i - 1] > 1.5]
        for i in reversed(gaps):
            times.insert(i, times[i]), values.insert(i, float('nan'))
        if any(v == v for v in values):
            ax.plot(times, values, label=name, linewidth=1.2)
    ax.set_title(panel['title'], loc='left', fontweight='bold', fontsize=9)
    ax.set_ylim(bottom=0)
    ax.grid(alpha=0.3)
    if panel['fieldConfig']['defaults']['unit'] == 'percentunit':
        ax.yaxis.set_major_formatter(PercentFormatter(1))
    if ax.lines:
        ax.legend(fontsize=7, loc='upper left', framealpha=0.6)
for ax in axes.flat[len(panels):]:
    ax.set_visible(False)
for ax in axes.flat[len(panels) - 2:len(panels)]:
    ax.tick_params(labelbottom=True)
    ax.set_xlabel('seconds')
figure.tight_layout()
drawn = io.BytesIO()
figure.savefig(drawn, dpi=80)
Image.open(drawn).convert('RGB').quantize(256).save(output, optimize=True)
