"""Draws loss.csv as loss.svg: python3 plot_loss.py loss.csv loss.svg"""

import csv
import math
import sys

WIDTH, HEIGHT, LEFT, BOTTOM = 720, 360, 60, 40
CURVES = [("loss", "#1f5fa8", "next token"), ("mtp_loss", "#b8520a", "token after next (MTP)")]


def smooth(values, keep=0.8):
    """Exponential mean, so that the noise of single batches does not hide the curve."""
    out, mean = [], values[0]
    for v in values:
        mean = keep * mean + (1 - keep) * v
        out.append(mean)
    return out


def main():
    with open(sys.argv[1], newline="") as file:
        rows = list(csv.DictReader(file))
    x = [int(r["tokens"]) / 1e6 for r in rows]
    curves = [(smooth([float(r[name]) for r in rows]), colour, label) for name, colour, label in CURVES]
    low = math.log(min(min(c[0]) for c in curves) * 0.9)
    high = math.log(max(max(c[0]) for c in curves) * 1.1)
    right, top = WIDTH - 20, 20

    def px(v):
        return LEFT + (right - LEFT) * v / x[-1]

    def py(v):
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - top) * (math.log(v) - low) / (high - low)

    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">' % (WIDTH, HEIGHT),
           '<rect width="100%" height="100%" fill="white"/>']
    for tick in (0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10):
        if low <= math.log(tick) <= high:
            out.append('<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%g</text>' % (LEFT, py(tick), right, LEFT - 8, py(tick) + 4, tick))
    step = 10 ** math.floor(math.log10(x[-1] / 2))
    for i in range(int(x[-1] / step) + 1):
        if int(x[-1] / step) <= 10 or i % 2 == 0:
            out.append('<text x="%.1f" y="%d" text-anchor="middle">%g</text>' % (px(i * step), HEIGHT - BOTTOM + 18, i * step))
    out.append('<text x="%d" y="%d" text-anchor="middle">million tokens</text>' % ((LEFT + right) // 2, HEIGHT - 6))
    for n, (values, colour, label) in enumerate(curves):
        points = " ".join("%.1f,%.1f" % (px(a), py(b)) for a, b in zip(x, values))
        out.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>' % (points, colour))
        out.append('<text x="%d" y="%d" fill="%s" text-anchor="end">%s</text>' % (right - 10, top + 16 + 16 * n, colour, label))
    out.append("</svg>")
    with open(sys.argv[2], "w") as file:
        file.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
