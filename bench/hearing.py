"""Measures of a sound, and what they decide: drums or strings, slow or fast, and so on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 32_000
HOP = 320  # samples: 10 ms

Samples = npt.NDArray[np.float32]  # [samples], mono at 32 kHz
Floats = npt.NDArray[np.float64]


def spectrogram(sound: Samples, size: int, hop: int) -> Floats:
    padded = np.pad(sound.astype(np.float64), size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    return np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)) / size

def centroid(sound):
    p = (spectrogram(sound, 1024, HOP)**2).sum(0)
    return float(p @ np.fft.rfftfreq(1024, 1/SAMPLE_RATE) / p.sum())
def rolloff(sound, share=.85):
    p = (spectrogram(sound, 1024, HOP)**2).sum(0).cumsum()
    return float(np.fft.rfftfreq(1024, 1/SAMPLE_RATE)[np.searchsorted(p, share*p[-1])])
def median(x, size, axis):
    width=[(0,0),(0,0)]; width[axis]=(size//2,size//2)
    return np.median(np.lib.stride_tricks.sliding_window_view(np.pad(x,width,mode='edge'), size, axis), -1)
def percussive(sound):
    s = spectrogram(sound, 1024, HOP)**2
    h, p = median(s, 17, 0), median(s, 17, 1)
    return float((s*p**2/(p**2+h**2+1e-30)).sum()/s.sum())
def flux(sound):
    s = spectrogram(sound, 1024, HOP)
    s = np.log1p(s/s.max()*1e3)
    return np.maximum(np.diff(s, axis=0, prepend=s[:1]),0).mean(1)
RATIOS = np.array((1, 16 / 15, 9 / 8, 6 / 5, 5 / 4, 4 / 3, 45 / 32, 3 / 2, 8 / 5, 5 / 3, 9 / 5, 15 / 8))
def profile(sound, lo=100, hi=1100, size=16384, drop=1.5):
    s = median(spectrogram(sound, size, size//8),5,0)
    hz = np.fft.rfftfreq(size, 1/SAMPLE_RATE)
    out=np.zeros(12)
    b = np.arange(int(lo*size/SAMPLE_RATE), int(hi*size/SAMPLE_RATE))
    peak = (s[:,b]>s[:,b-1])&(s[:,b]>=s[:,b+1])
    near=lambda k: np.max([s[:,np.round(b/k).astype(int)+d] for d in (-1,0,1)],0)
    left = np.maximum(s[:,b]-drop*np.maximum(near(3),near(5)),0)*peak
    cents = 1200*np.log2(hz[b]/250)%1200
    pc=1200*np.log2(RATIOS)
    dist = np.abs((cents[:,None]-pc+600)%1200-600)
    for i in range(12):
        out[i]=left[:,dist[:,i]<30].sum()
    return out/(out.sum()+1e-12)
def major(sound,**k):
    p=profile(sound,**k)
    return p[[4,9,11]].sum()-p[[3,8,10]].sum()
