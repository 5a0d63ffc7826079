"""Tell heart rhythms apart from ECG charts: recordings to charts, charts to LMDB, fine-tuned torchvision models.

`ecg_arrhythmia` turns 12-lead ECG recordings into ECG charts, packs them into a small LMDB store, fine-tunes pretrained torchvision models on them with fastai, and says how well they tell atrial fibrillation (AFIB), supraventricular tachycardia (GSVT), sinus bradycardia (SB) and sinus rhythm (SR) apart, on recordings the models have never seen."""

__version__ = "0.1.0"
