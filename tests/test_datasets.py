"Data sets as they are downloaded, built by hand in the publishers' layouts, and one's own in any format"
import struct, zipfile

import numpy as np, pandas as pd, pytest

from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.convert import write_recording
from ecg_arrhythmia.data.databases import diagnostics, part_of
from ecg_arrhythmia.data.datasets import catalogue
from ecg_arrhythmia.data.quality import quality_report, judge
from ecg_arrhythmia.data.recordings import LEADS
from ecg_arrhythmia.data.rhythms import label
from ecg_arrhythmia.data.simulation import simulate
from ecg_arrhythmia.data.splits import make_split, patients_of
from ecg_arrhythmia.data.tables import to_csv_bytes

RECS = [simulate(r, seed=s) for s in range(2) for r in ('SR', 'SB', 'AFIB')]

def fails(*says): return pytest.raises(ECGError, match='(?s)'+'.*'.join(says))

def same(rec, i, tolerance=.003):
    "The samples of simulated recording `i`, to `tolerance` mV"
    assert rec.fs==500 and np.abs(rec.signal - RECS[i].signal).max() <= tolerance

def challenge(folder, name, rec, codes, age=60):
    "A recording as the challenges publish it: a header, and a MATLAB 4 file of 16-bit microvolts"
    folder.mkdir(parents=True, exist_ok=True)
    x = np.rint(rec.signal*1000).astype('<i2')
    (folder/f'{name}.mat').write_bytes(struct.pack('<5i', 30, 12, x.shape[1], 0, 4) + b'val\0' + x.T.tobytes())
    sums = [(int(v.astype(int).sum())+32768) % 65536 - 32768 for v in x]
    lines = [f'{name} 12 500 {x.shape[1]} 01-Jan-2020 12:00:00']
    lines += [f'{name}.mat 16+24 1000/mV 16 0 {v[0]} {s} 0 {l}' for v,s,l in zip(x, sums, LEADS)]
    (folder/f'{name}.hea').write_text('\n'.join([*lines, f'#Age: {age}', '#Sex: Female', f'#Dx: {codes}', '']))

# --- the challenges

PARTS = {
    'A0001': 'CPSC', 'Q0001': 'CPSC-Extra', 'I0001': 'St Petersburg', 'S0001': 'PTB', 'HR00001': 'PTB-XL',
    'E00001': 'Georgia', 'JS00001': 'Chapman-Shaoxing and Ningbo'}

def test_all_parts_of_the_challenges(tmp_path):
    codes = ('426783006', '426177001', '164889003', '426783006,10370003', '251146004', '251166008', '17366009')
    for i,(name,c) in enumerate(zip(PARTS, codes)): challenge(tmp_path/f'training/part{i}/g1', name, RECS[i % 6], c)
    cat = catalogue(tmp_path)
    assert cat.kind=='cinc' and cat.table.part.to_dict()==dict(sorted(PARTS.items())) and 'Georgia' in cat.title
    rhythms = dict(A0001='SR', Q0001='SB', I0001='AFIB', S0001='', HR00001='', E00001='AVNRT', JS00001='SAAWR')
    assert cat.table.rhythm.to_dict()==rhythms
    for i,name in enumerate(PARTS): same(cat.read(name), i % 6, .0006)
    assert cat.table.age.tolist()==[60.]*7 and set(cat.table.sex)=={'F'}

def test_georgia_alone_in_a_zip(tmp_path):
    challenge(tmp_path/'WFDB', 'E00001', RECS[0], '426783006')
    with zipfile.ZipFile(tmp_path/'georgia.zip', 'w') as z:
        for p in (tmp_path/'WFDB').iterdir(): z.write(p, f'WFDB_Ga/{p.name}')
    cat = catalogue(tmp_path/'georgia.zip')
    assert cat.title=='PhysioNet/CinC challenge (Georgia)'
    same(cat.read('E00001'), 0, .0006)

def test_parts_by_name():
    names = 'JS00001', 'E1', 'HR12345', 'X00001', 'A0001', 's0010_re'
    assert [part_of(n) for n in names]==[PARTS['JS00001'], '', 'PTB-XL', '', 'CPSC', '']

# --- CPSC, SPH, CODE-15 %, MIMIC-IV-ECG

def test_cpsc(tmp_path):
    from scipy.io import savemat
    (tmp_path/'TrainingSet1').mkdir()
    for i,name in enumerate(('A0001', 'A0002')):
        savemat(tmp_path/f'TrainingSet1/{name}.mat', dict(ECG=dict(sex='Male', age=70, data=RECS[i].signal.astype(float))))
    rows = [('A0001', 1, '', ''), ('A0002', 2, 5, ''), ('A0003', 4, '', '')]
    columns = ['Recording', 'First_label', 'Second_label', 'Third_label']
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path/'TrainingSet1/REFERENCE.csv', index=False)
    cat = catalogue(tmp_path)
    assert cat.kind=='cpsc' and cat.table.rhythm.to_dict()==dict(A0001='SR', A0002='AFIB') and cat.missing==['A0003']
    same(cat.read('A0001'), 0)

def test_sph(tmp_path):
    h5py = pytest.importorskip('h5py')
    (tmp_path/'records').mkdir()
    for i,name in enumerate(('A00001', 'A00002', 'A00003')):
        with h5py.File(tmp_path/f'records/{name}.h5', 'w') as f: f['ecg'] = RECS[i].signal.astype('float16')
    rows = [('A00001', '1', 'S1', 55, 'M'), ('A00002', '22;105', 'S1', 56, 'M'),
            ('A00003', '50+346', 'S2', 80, 'F'), ('A00004', '21', 'S3', 30, 'F')]
    pd.DataFrame(rows, columns=['ECG_ID', 'AHA_Code', 'Patient_ID', 'Age', 'Sex']).to_csv(
        tmp_path / 'metadata.csv', index=False
    )
    cat = catalogue(tmp_path)
    assert (
        cat.kind == 'sph'
        and cat.table.rhythm.tolist() == ['SR', 'SB', 'AFIB']
        and cat.table.patient.tolist() == ['S1', 'S1', 'S2']
    )
    assert cat.missing==['A00004'] and cat.table.sex.tolist()==['M', 'M', 'F']
    same(cat.read('A00003'), 2, .005)

@pytest.mark.parametrize('tenths', [False, True])
def test_code15(tmp_path, tenths):
    "A signal in mV, or in steps of 0.1 mV as the text of the data set says"
    h5py = pytest.importorskip('h5py')
    from ecg_arrhythmia.data.recordings import resample
    x = np.zeros((6, 4096, 12), np.float32)
    for i,r in enumerate(RECS): x[i,48:4048] = resample(r.signal, 500, 400).T*(10 if tenths else 1)
    for part in (0, 1):
        with h5py.File(tmp_path/f'exams_part{part}.hdf5', 'w') as f:
            f['tracings'] = x[3*part:3*part+3]
            f['exam_id'] = np.arange(1000+3*part, 1003+3*part)
    columns = ['1dAVb', 'RBBB', 'LBBB', 'SB', 'ST', 'AF']
    said = np.zeros((7, 6), bool)
    said[1,3] = said[2,5] = said[3,3] = said[3,4] = True
    t = pd.DataFrame(said, columns=columns).assign(
        exam_id=range(1000, 1007), age=50, is_male=[True, False]*3+[True], patient_id=[1,1,2,3,4,5,6],
        normal_ecg=[True]+[False]*6, trace_file=['exams_part0.hdf5']*3+['exams_part1.hdf5']*3+['exams_part9.hdf5'])
    t.to_csv(tmp_path/'exams.csv', index=False)
    cat = catalogue(tmp_path)
    assert cat.kind=='code15' and cat.table.rhythm.tolist()==['SR', 'SB', 'AFIB', '', '', ''] and cat.missing==['1006']
    assert cat.table.patient.tolist()==['1', '1', '2', '3', '4', '5'] and cat.table.sex.tolist()==['M', 'F']*3
    rec = cat.read('1004')
    assert rec.fs==400 and abs(np.ptp(rec.signal[1])/np.ptp(RECS[4].signal[1])-1) < .1
    assert len(cat.digest)==16

def test_mimic(tmp_path):
    rows, said = [], []
    reports = (
        ['Sinus rhythm', 'Normal ECG'],
        ['Probable atrial fibrillation'],
        ['Sinus bradycardia', 'Prolonged QT interval'],
    )
    for i,(rec,report) in enumerate(zip(RECS, reports)):
        path = f'files/p1000/p1000003{i}/s4068923{i}/4068923{i}'
        (tmp_path/path).parent.mkdir(parents=True)
        write_recording(rec, tmp_path/f'{path}.hea')
        rows.append((f'1000003{i}', f'4068923{i}', f'4068923{i}', path))
        said.append((f'1000003{i}', f'4068923{i}', *report))
    rows.append(('10000039', '40689239', '40689239', 'files/none'))
    pd.DataFrame(rows, columns=['subject_id', 'study_id', 'file_name', 'path']).to_csv(
        tmp_path / 'record_list.csv', index=False
    )
    pd.DataFrame(said, columns=['subject_id', 'study_id', 'report_0', 'report_1']).to_csv(
        tmp_path / 'machine_measurements.csv', index=False
    )
    cat = catalogue(tmp_path)
    assert (
        cat.kind == 'mimic'
        and list(cat) == ['40689230', '40689231', '40689232']
        and cat.table.rhythm.tolist() == ['SR', '', 'SB']
    )
    assert cat.table.patient.tolist()==['10000030', '10000031', '10000032'] and cat.missing==['40689239']
    same(cat.read('40689232'), 2)

# --- one's own

ENDINGS = '.csv', '.hea', '.dcm', '.xml'

@pytest.fixture
def mixed(tmp_path):
    "Six recordings in four formats, in two folders, and a letter"
    for i,rec in enumerate(RECS):
        path = tmp_path/'ward'/('a' if i<3 else 'b')/f'rec{i}{ENDINGS[i%4]}'
        path.parent.mkdir(parents=True, exist_ok=True)
        write_recording(rec, path)
    (tmp_path/'ward/letter.pdf').write_bytes(b'%PDF-1.4 dear colleague')
    return tmp_path/'ward'

RHYTHMS = ['SR', 'SB', 'AFIB']*2
def labels(**columns):
    patients = ['p0', 'p0', 'p1', 'p2', 'p3', 'p4']
    return pd.DataFrame(dict(columns, rhythm=RHYTHMS, patient=patients, age=[40]*6, sex=['F', 'M']*3))

def check_own(cat):
    assert cat.kind=='own' and cat.title=='Own recordings' and list(cat)==[f'rec{i}' for i in range(6)]
    assert cat.table.rhythm.tolist()==RHYTHMS and cat.table.patient.nunique()==5 and cat.table.sex.tolist()==['F', 'M']*3
    for i in range(6): same(cat.read(f'rec{i}'), i)
    report = quality_report(cat, 0)
    assert not judge(report).any(axis=None)
    split = make_split(label(cat, {'SR': 'sinus', 'SB': 'sinus', 'AFIB': 'fibrillation'}), n_folds=2, test_size=0)
    assert len(split.train)==6 and split.classes==('fibrillation', 'sinus')
    assert patients_of(cat, report)['rec0']==patients_of(cat, report)['rec1']=='p0'

def test_folder_with_labels_in_it(mixed):
    labels(name=[f'rec{i}' for i in range(6)]).to_csv(mixed/'labels.csv', index=False)
    cat = catalogue(mixed)
    check_own(cat)
    assert [m for m,_ in cat.skipped]==['letter.pdf'] and 'PDF' in cat.skipped[0][1]

def test_folder_with_labels_elsewhere_in_excel(mixed, tmp_path):
    labels(name=[f'rec{i}' for i in range(6)]).to_excel(tmp_path/'who.xlsx', index=False)
    check_own(catalogue(mixed, tmp_path/'who.xlsx'))

def test_zip_with_labels(mixed, tmp_path):
    with zipfile.ZipFile(tmp_path/'set.zip', 'w') as z:
        for p in mixed.rglob('*'):
            if p.is_file(): z.write(p, p.relative_to(mixed).as_posix())
    labels(name=[f'rec{i}' for i in range(6)]).to_csv(tmp_path/'labels.csv', index=False)
    check_own(catalogue(tmp_path/'set.zip'))

@pytest.mark.parametrize('sep', [',', ';'])
def test_table_that_lists_files(mixed, tmp_path, sep):
    "The table is the data set; a file that is not there is missing"
    paths = [p.relative_to(tmp_path).as_posix() for i in range(6) for p in mixed.rglob(f'rec{i}.*') if p.suffix!='.dat']
    t = labels(path=paths)
    t.loc[6] = dict(path='ward/none.csv', rhythm='SR', patient='p9', age=1, sex='')
    t.to_csv(tmp_path/'study.csv', index=False, sep=sep)
    cat = catalogue(tmp_path/'study.csv')
    check_own(cat)
    assert cat.missing==['none']

def test_names_of_the_table_and_absolute_paths(mixed, tmp_path):
    paths = [str(p) for i in range(6) for p in mixed.rglob(f'rec{i}.*') if p.suffix!='.dat']
    labels(path=paths, name=[f'00{i}' for i in range(6)]).to_csv(tmp_path/'study.csv', index=False)
    cat = catalogue(tmp_path/'study.csv')
    assert list(cat)==[f'00{i}' for i in range(6)]
    same(cat.read('003'), 3)

def test_rate_and_unit_from_the_table(tmp_path):
    "Counts of 250 Hz in mV, which no CSV file says"
    x = RECS[0].signal[:,::2]
    pd.DataFrame(x.T, columns=LEADS).to_csv(tmp_path/'r.csv', index=False)
    (tmp_path/'study.csv').write_text('path,rhythm,fs,unit\nr.csv,SR,250,mV\n')
    rec = catalogue(tmp_path/'study.csv').read('r')
    assert rec.fs==250 and rec.seconds==10 and np.allclose(rec.signal, x, atol=1e-4)

def test_without_labels_all_are_unlisted(mixed):
    cat = catalogue(mixed)
    assert cat.unlisted==["rec0", "rec2", "rec3", "rec4"], "a WFDB header counts as metadata"
    assert set(cat.table.rhythm)=={""} and len(label(cat, unlabelled="drop"))==0
    with fails('6 recordings without a known rhythm'): label(cat)

def test_files_of_one_name(tmp_path):
    for ending in ('.csv', '.dcm'): write_recording(RECS[0], tmp_path/f'one{ending}')
    assert list(catalogue(tmp_path))==['one.csv', 'one.dcm']

def test_a_folder_of_other_things_says_what_they_are(tmp_path):
    for i in range(3): (tmp_path/f'{i}.png').write_bytes(b'\x89PNG\r\n\x1a\n')
    (tmp_path/'x.txt').write_text('hello')
    with fails('no recordings among 4 files', '3 times'): catalogue(tmp_path)
    with fails('no column path'):
        (tmp_path/'t.csv').write_text('a,b\n1,2\n')
        catalogue(tmp_path/'t.csv')

# --- out of date by content

def test_digest_follows_content_and_labels(mixed):
    labels(name=[f'rec{i}' for i in range(6)]).to_csv(mixed/'labels.csv', index=False)
    was = catalogue(mixed).digest
    assert catalogue(mixed).digest==was
    path = next(mixed.rglob('rec0.csv'))
    data = bytearray(path.read_bytes())
    data[-5] ^= 1 # the same size
    path.write_bytes(data)
    changed = catalogue(mixed).digest
    assert changed!=was
    text = (mixed/'labels.csv').read_text()
    (mixed/'labels.csv').write_text(text.replace('rec1,SB', 'rec1,SR'))
    assert catalogue(mixed).digest!=changed, 'a corrected label'

def test_digest_does_not_follow_places(mixed, tmp_path):
    import shutil
    was = catalogue(mixed).digest
    shutil.copytree(mixed, tmp_path/'elsewhere')
    assert catalogue(tmp_path/'elsewhere').digest==was

def test_hashes_of_a_large_folder_are_kept(mixed, tmp_path, monkeypatch):
    "Each file is read once, and again only when it has changed"
    from ecg_arrhythmia.data import catalogues as D
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    monkeypatch.setattr(D, 'BIG', 0)
    read = []
    hash_of = D._hash_of
    def counted(path):
        read.append(path.name)
        return hash_of(path)
    monkeypatch.setattr(D, '_hash_of', counted)
    was = catalogue(mixed).digest
    assert len(read)>=6
    read.clear()
    assert catalogue(mixed).digest==was and read==[]
    path = next(mixed.rglob('rec0.csv'))
    path.write_bytes(path.read_bytes()[:-2]+b'1\n')
    assert catalogue(mixed).digest!=was and read==['rec0.csv']

# --- bounds

def test_vast_tables_are_refused(tmp_path):
    (tmp_path/'study.csv').write_text('path,rhythm'+','*300+'\n')
    with fails('commas'): catalogue(tmp_path/'study.csv')

def test_windows_encoding(tmp_path):
    write_recording(RECS[0], tmp_path/'a.csv')
    (tmp_path/'study.csv').write_bytes('path;rhythm;patient\na.csv;SR;Müller\n'.encode('cp1252'))
    assert catalogue(tmp_path/'study.csv').table.patient.tolist()==['Müller']

# --- as downloaded, not yet unpacked

@pytest.mark.parametrize('table,archive', [
    ('exams.csv', 'exams_part0.zip'), ('metadata.csv', 'records.tar.gz'), ('REFERENCE.csv', 'TrainingSet1.7z')])
def test_archives_are_named(tmp_path, table, archive):
    code15 = ['exam_id', 'trace_file', 'patient_id', '1dAVb', 'RBBB', 'LBBB', 'SB', 'ST', 'AF', 'normal_ecg', 'age', 'is_male']
    rows = dict.fromkeys(code15 if table=='exams.csv' else ['ECG_ID', 'AHA_Code', 'Patient_ID'], ['1'])
    pd.DataFrame(rows).to_csv(tmp_path/table, index=False)
    with zipfile.ZipFile(tmp_path/archive, 'w') as z: z.writestr('inside', 'x')
    (tmp_path/'more').mkdir()
    with fails(f'no recordings, but 1 archives, {archive} the first; unpack them'): catalogue(tmp_path)

def test_statements_of_sph_that_are_other_rhythms():
    from ecg_arrhythmia.data.rhythms import aha_rhythm
    said = {'1': 'SR', '22;105': 'SB', '22;38': '', '33': 'SAAWR', '34': '', '50+346': 'AFIB', '21;60+310': 'ST', '76': ''}
    assert {code: aha_rhythm(code) for code in said}==said

@pytest.mark.parametrize('said,sex', [('Male', 'M'), ('m', 'M'), ('FEMALE', 'F'), ('weiblich', 'F'), ('männlich', 'M'),
    ('mujer', 'F'), ('hombre', 'M'), ('Mme', ''), ('maybe', ''), ('Unknown', ''), (0, 'M'), ('1.0', 'F'), ('', '')])
def test_words_for_sex(said, sex):
    from ecg_arrhythmia.data.files import sex_of
    assert sex_of(said)==sex

def test_tables_of_own_recordings_as_programs_write_them(tmp_path):
    (tmp_path/'sub').mkdir()
    for name in ('a.csv', 'sub/b.csv'): (tmp_path/name).write_bytes(to_csv_bytes(simulate('SR', seed=1)))
    rows = [['name', 'path', 'rhythm', 'sex'], ['x', 'a.csv', 'SR', '1'], ['y', 'sub\\b.csv', 'AFIB', 'F']]
    for sep,code in ((',', 'utf-8'), ('\t', 'utf-16'), (';', 'cp1252'), ('\t', 'utf-8')):
        (tmp_path/'t.csv').write_text('\n'.join(map(sep.join, rows)), encoding=code)
        cat = catalogue(tmp_path/'t.csv')
        assert cat.table.rhythm.to_dict()==dict(x='SR', y='AFIB') and list(cat.table.sex)==['', 'F'], (sep, code)
    (tmp_path/'t.csv').write_text('path,rhythm\nmissing.csv,SR\n')
    with pytest.raises(ECGError, match="none of the 1 files that it lists is present; 'missing.csv' is the first"):
        catalogue(tmp_path/'t.csv')

def test_two_data_sets_side_by_side(tmp_path):
    columns = 'ecg_id,patient_id,age,sex,scp_codes,filename_hr\n'
    for part in ('a', 'b'):
        (tmp_path/part).mkdir()
        with zipfile.ZipFile(tmp_path/f'{part}.zip', 'w') as z: z.writestr('ptb-xl/ptbxl_database.csv', columns+part)
    (tmp_path/'zips').mkdir()
    for part in ('a', 'b'): (tmp_path/f'{part}.zip').rename(tmp_path/f'zips/{part}.zip')
    with fails('2 zips .a.zip, b.zip.', 'as in .*a.zip', 'unpack them all into one folder'): catalogue(tmp_path/'zips')
    for part in ('a', 'b'): (tmp_path/part/'ptbxl_database.csv').write_text(columns+part)
    with fails('2 data sets side by side', 'as in .*/a'): catalogue(tmp_path)

def test_as_published(tmp_path):
    "CODE-15 % ends each file with an exam 0 of zeros, and MIMIC-IV-ECG has aVF before aVL"
    h5py = pytest.importorskip('h5py')
    from ecg_arrhythmia.data.recordings import resample
    x = np.zeros((3, 4096, 12), np.float32)
    for i in range(2): x[i,48:4048] = resample(RECS[i].signal, 500, 400).T
    with h5py.File(tmp_path/'exams_part0.hdf5', 'w') as f: f['tracings'], f['exam_id'] = x, [11, 12, 0]
    t = pd.DataFrame(False, range(2), ['1dAVb', 'RBBB', 'LBBB', 'SB', 'ST', 'AF', 'normal_ecg'])
    t.assign(exam_id=[11, 12], age=50, is_male=True, patient_id=[1, 2], trace_file='exams_part0.hdf5').to_csv(tmp_path/'exams.csv')
    assert list(catalogue(tmp_path))==['11', '12']
    order = [LEADS.index(l) for l in ('I', 'II', 'III', 'aVR', 'aVF', 'aVL', *LEADS[6:])]
    part, counts = tmp_path/'mimic/files/p1000/p10000032/s40689238', np.rint(RECS[0].signal[order]*200).astype('<i2')
    part.mkdir(parents=True)
    (part/'40689238.dat').write_bytes(counts.T.tobytes())
    sums = [(int(c.sum(dtype=int))+32768) % 65536 - 32768 for c in counts]
    lines = [f'40689238.dat 16 200.0(0)/mV 16 0 {c[0]} {s} 0 {LEADS[i]}' for c,s,i in zip(counts, sums, order)]
    (part/'40689238.hea').write_text('\n'.join(['40689238 12 500 5000 10:40:00 05/03/2180', *lines])+'\n')
    row = f'10000032,40689238,40689238,2180-05-03 10:40:00,{part.relative_to(tmp_path/"mimic").as_posix()}/40689238\n'
    (tmp_path/'mimic/record_list.csv').write_text('subject_id,study_id,file_name,ecg_time,path\n'+row)
    said = 'subject_id,study_id,cart_id,ecg_time,report_0\n10000032,40689238,1,2180-05-03 10:40:00,Sinus rhythm\n'
    (tmp_path/'mimic/machine_measurements.csv').write_text(said)
    same(catalogue(tmp_path/'mimic').read('40689238'), 0, .0026)
