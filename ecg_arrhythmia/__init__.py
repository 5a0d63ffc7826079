"""Tell heart rhythms apart from ECG charts: recordings to charts, charts to LMDB, fine-tuned torchvision models.

`ecg_arrhythmia` turns 12-lead ECG recordings into ECG charts, packs them into a small LMDB store, fine-tunes pretrained torchvision models on them with fastai, and says how well they tell atrial fibrillation (AFIB), supraventricular tachycardia (GSVT), sinus bradycardia (SB) and sinus rhythm (SR) apart, on recordings the models have never seen.

Start with a first model (https://ecg-arrhythmia.github.io/ecg_arrhythmia/tutorials/first_model.html), your own recording (https://ecg-arrhythmia.github.io/ecg_arrhythmia/tutorials/own_recording.html), reading an explanation with care (https://ecg-arrhythmia.github.io/ecg_arrhythmia/tutorials/explanation.html), or the report (https://ecg-arrhythmia.github.io/ecg_arrhythmia/report/data.html). Module docs: `recordings`, `labels`, `chart`, `store`, `models`, `train`, `evaluate`, `search`, `explain`, `shares`, `fidelity`, `predict`, each at https://ecg-arrhythmia.github.io/ecg_arrhythmia/NAME.html. -"""

__version__ = "0.1.0"
